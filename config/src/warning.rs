//! What is ignored or worth knowing, though the configuration can be used.

use std::fmt;

use crate::error::Place;

/// Something in the configuration has no effect, or not the one it seems to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Where it was written.
    pub place: Place,
    /// The dotted field, or the name of an environment variable.
    pub field: String,
    /// What about it.
    pub kind: WarningKind,
}

/// Why a [`Warning`] was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// Nobody knows this key.
    Unknown {
        /// The known key that looks most like it: its last part, or the full path where it belongs
        /// elsewhere.
        nearest: Option<String>,
    },
    /// Patroni knows this key; hart does not do it.
    Unsupported,
    /// Known to hart, but this version does not act on it yet.
    Later,
    /// Ignored for the reason given.
    Ignored {
        /// Reason and remedy.
        why: String,
    },
    /// In use, but not as it seems.
    Note {
        /// What happens instead.
        text: String,
    },
}

impl Warning {
    /// The known key that was probably meant.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        match &self.kind {
            WarningKind::Unknown { nearest } => nearest.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, field, kind } = self;
        if place.line > 0 {
            write!(f, "{}:{}: ", place.file, place.line)?;
        } else if *place.file != **field {
            write!(f, "{}: ", place.file)?;
        }
        let noun = if *place.file == **field { "environment variable" } else { "key" };
        match kind {
            WarningKind::Unknown { nearest: None } => {
                write!(f, "unknown {noun} \"{field}\" is ignored")
            }
            WarningKind::Unknown { nearest: Some(nearest) } => {
                write!(f, "unknown {noun} \"{field}\" is ignored; did you mean \"{nearest}\"?")
            }
            WarningKind::Unsupported => {
                write!(f, "{noun} \"{field}\" is not supported by hart and is ignored")
            }
            WarningKind::Later => {
                write!(
                    f,
                    "{noun} \"{field}\" is not supported by this version of hart and is ignored"
                )
            }
            WarningKind::Ignored { why } => write!(f, "{noun} \"{field}\" is ignored: {why}"),
            WarningKind::Note { text } => write!(f, "{noun} \"{field}\": {text}"),
        }
    }
}
