//! The interpreter of this process, and what it is asked. The first task that asks starts it.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use serde::{Deserialize, Serialize};

/// The task. It returns four times the number of hits, or the exception.
pub fn calc_pi(darts: Darts) -> Result<u64, String> {
    let result = Python::attach(|py| {
        let function = module(py)?.getattr(darts.function.name())?;
        function.call1((darts.samples,))?.extract()
    });
    result.map_err(|exception: PyErr| exception.to_string())
}

/// A task's argument.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Darts {
    pub function: Function,
    pub samples: u64,
}

/// A function of `calc_pi.py`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Function {
    Plain,
    Numpy,
}

impl Function {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Numpy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "calc_pi",
            Self::Numpy => "calc_pi_numpy",
        }
    }

    /// How many darts it throws while the slowest throws one, more or less.
    pub fn pace(self) -> u64 {
        match self {
            Self::Plain => 1,
            Self::Numpy => 20,
        }
    }

    /// Imports what it needs, which may not be installed.
    pub fn prepare(self) -> Result<(), String> {
        let needs = match self {
            Self::Plain => "random",
            Self::Numpy => "numpy",
        };
        let imported = Python::attach(|py| py.import(needs).map(drop));
        imported.map_err(|exception| exception.to_string())
    }
}

/// Starts the interpreter, so that the first task need not wait for it.
pub fn start((): ()) {
    for function in Function::ALL {
        // What is missing was reported by the program, which then sends no such task.
        let _ = function.prepare();
    }
}

/// Such as 3.11.2.
pub fn version() -> &'static str {
    let version = Python::version_str();
    version
        .split_once(' ')
        .map_or(version, |(number, _)| number)
}

/// `calc_pi.py`, loaded once a process.
fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    const CODE: &CStr = pyo3::ffi::c_str!(include_str!("calc_pi.py"));
    let load = || PyModule::from_code(py, CODE, c"calc_pi.py", c"calc_pi").map(Bound::unbind);
    Ok(MODULE.get_or_try_init(py, load)?.bind(py))
}
