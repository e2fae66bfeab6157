//! WAL positions and timelines, as PostgreSQL counts them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A timeline ID (`pg_control_checkpoint().timeline_id`). Every promotion makes a new, higher one.
pub type Timeline = u32;

/// A WAL position in bytes (PostgreSQL's `pg_lsn`). In Consul it is a plain number, as Patroni
/// writes it; for people it is shown as PostgreSQL does, `0/3000148`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `earlier` to this position; zero when `earlier` is ahead.
    #[must_use]
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not a WAL position.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not a WAL position; expected two hexadecimal numbers such as 0/3000148")]
pub struct LsnError(pub String);

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(s: &str) -> Result<Self, LsnError> {
        let bad = || LsnError(s.to_owned());
        let (high, low) = s.trim().split_once('/').ok_or_else(bad)?;
        let part = |text: &str| match text.len() {
            1..=8 if text.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u32::from_str_radix(text, 16).map_err(|_| bad())
            }
            _ => Err(bad()),
        };
        Ok(Self((u64::from(part(high)?) << 32) | u64::from(part(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_reads_positions_as_postgresql_does() {
        assert_eq!(Lsn(0x3000148).to_string(), "0/3000148");
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!("FFFFFFFF/FFFFFFFF".parse(), Ok(Lsn(u64::MAX)));
    }

    #[test]
    fn refuses_what_is_not_a_position() {
        for bad in ["", "/", "0", "0/", "g/0", "0/123456789", "+1/0"] {
            assert_eq!(bad.parse::<Lsn>(), Err(LsnError(bad.to_owned())), "{bad}");
        }
    }
}
