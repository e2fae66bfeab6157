//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use crate::warning::Warning;

/// Where something was written: a file with line and column (from 1), or an environment variable
/// (its name as `file`, line 0).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the user named it, or the name of the environment variable.
    pub file: Arc<str>,
    /// From 1; 0 where there is none.
    pub line: u32,
    /// From 1, in characters; 0 where there is none.
    pub column: u32,
}

impl Place {
    /// A file as a whole, or an environment variable.
    #[must_use]
    pub fn whole(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The dotted field; empty where the problem is not about one field.
    pub field: String,
    /// What is wrong, such as `expected a number, found "abc"`. Never holds a secret.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}\n  hint: {}", self.what, self.hint)
    }
}

/// Everything that is wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// At least one.
    pub problems: Vec<Problem>,
    /// Beside them: a misspelt key is the usual reason for a missing one.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// The configuration cannot be used. The caller exits with [`crate::EXIT_USAGE`]. Each text ends
/// with a line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file or directory cannot be read.
    #[error("cannot read {path}: {reason}\n  hint: {hint}")]
    Unreadable {
        /// As the user named it.
        path: String,
        /// The system's reason.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The text is not YAML.
    #[error("{place}: not valid YAML: {reason}\n  hint: {hint}")]
    Malformed {
        /// Where the reader stopped.
        place: Place,
        /// What it saw.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It is YAML, but its values are wrong or missing.
    #[error("{0}")]
    Invalid(Problems),
}

impl Error {
    /// One wrong value.
    pub(crate) fn one(problem: Problem) -> Self {
        Self::Invalid(Problems { problems: vec![problem], warnings: Vec::new() })
    }
}
