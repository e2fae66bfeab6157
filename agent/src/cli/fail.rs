//! Why a command did not do what it was asked to.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use hart_types::Chain;

/// The exit code for wrong usage or configuration.
pub const USAGE: u8 = 64;

/// A command's failure: what failed, with which value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    usage: bool,
    text: String,
    hint: Option<String>,
}

impl Fail {
    /// It was understood and did not work: exit code 1.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { usage: false, text: text.into(), hint: None }
    }

    /// Wrong arguments or configuration: exit code 64.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { usage: true, ..Self::failed(text) }
    }

    /// The error with its causes, after what was being done.
    #[must_use]
    pub fn from_error(doing: &str, error: &(dyn Error + 'static)) -> Self {
        Self::failed(format!("{doing}: {}", Chain(error)))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.usage { USAGE } else { 1 }
    }

    /// Prints it on stderr.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // A terminal that has gone is no reason to panic.
        let _ = writeln!(std::io::stderr(), "hart: {self}");
        self.code().into()
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

impl From<hart_config::Error> for Fail {
    fn from(error: hart_config::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<hart_consul::Error> for Fail {
    fn from(error: hart_consul::Error) -> Self {
        let usage = matches!(error, hart_consul::Error::Config { .. });
        Self { usage, ..Self::failed(Chain(&error).to_string()) }
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_failure_have_their_exit_codes() {
        assert_eq!(Fail::failed("x").code(), 1);
        assert_eq!(Fail::usage("x").code(), 64);
        let text = Fail::usage("no cluster").hint("name one").to_string();
        assert_eq!(text, "no cluster\n  hint: name one");
    }
}
