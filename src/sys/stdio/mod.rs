//! Standard input, output and error: where they go, and what can stand in for them. `process/host/stdio.rs`
//! makes those of workers, `process/worker/` puts them into place.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{
    ERROR, INPUT, NULL, OUTPUT, append_only, empty_input, flush_c_output, has_error_output,
    never_wait, open_null, pipe, read_at, redirect, standard, write_at_once,
};
