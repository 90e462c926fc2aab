//! The environment of workers: the program's own, with changes. Builders make the changes, `spawn` applies
//! them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::process::Command;

use crate::error::Error;

/// Changes to the environment that a worker inherits, as [`Command`] makes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// What is inherited of the program's own environment.
    inherited: Inherited,
    /// The variables that are set; `None` instead of a value: the variable is removed.
    changes: BTreeMap<OsString, Option<OsString>>,
}

/// What a worker inherits of the program's environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Inherited {
    /// Every variable.
    #[default]
    All,
    /// No variable.
    Nothing,
}

impl Environment {
    /// Sets a variable.
    ///
    /// # Errors
    /// `InvalidConfig` if that is no name or no value of a variable.
    pub(crate) fn set(&mut self, key: OsString, value: OsString) -> Result<(), Error> {
        check_name(&key)?;
        if value.as_encoded_bytes().contains(&0) {
            let words = format!("env: the value of {key:?} has a NUL character");
            return Err(Error::InvalidConfig(words.into()));
        }
        self.changes.insert(key, Some(value));
        Ok(())
    }

    /// Removes a variable, be it inherited or set before.
    ///
    /// # Errors
    /// `InvalidConfig` if that is no name of a variable.
    pub(crate) fn remove(&mut self, key: OsString) -> Result<(), Error> {
        check_name(&key)?;
        self.changes.insert(key, None);
        Ok(())
    }

    /// Removes all variables, those that were set before included.
    pub(crate) fn clear(&mut self) {
        self.inherited = Inherited::Nothing;
        self.changes.clear();
    }

    /// Has a command start with this environment.
    pub(super) fn apply(&self, command: &mut Command) {
        if self.inherited == Inherited::Nothing {
            command.env_clear();
        }
        for (key, value) in &self.changes {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
    }
}

fn check_name(key: &OsStr) -> Result<(), Error> {
    let bytes = key.as_encoded_bytes();
    if bytes.is_empty() || bytes.iter().any(|byte| matches!(byte, b'=' | 0)) {
        let words = format!("env: {key:?} is no name of a variable");
        return Err(Error::InvalidConfig(words.into()));
    }
    Ok(())
}
