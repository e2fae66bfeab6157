//! A time that people give for something planned.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::cli::fail::Fail;

/// `now` and nothing at all mean at once; otherwise the moment, RFC 3339 with an offset.
///
/// # Errors
/// It is no time, or one of the local clock that does not come, or comes twice.
pub fn read(text: &str) -> Result<Option<String>, Fail> {
    let at = match text.trim() {
        "" | "now" => return Ok(None),
        text => moment(text, &TimeZone::system())?,
    };
    Ok(Some(hart_clock::with_offset(at)))
}

/// A point in time as people write it: with an offset, or by the clock of this zone.
///
/// # Errors
/// As [`read`].
pub fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, Fail> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let Ok(local) = text.parse::<DateTime>() else {
        return Err(Fail::usage(format!("{text:?} is no time"))
            .hint("give one such as 2027-03-01T02:00:00+01:00, or \"now\""));
    };
    let found = zone.to_ambiguous_timestamp(local);
    let why = match found.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some("does not come: the clocks are put forward over it"),
        AmbiguousOffset::Fold { .. } => Some("comes twice: the clocks are put back over it"),
    };
    let name = zone.iana_name().unwrap_or("this machine's time zone");
    if let Some(why) = why {
        return Err(Fail::usage(format!("{text} {why} ({name})"))
            .hint("give the offset, as in 2027-03-01T02:00:00+01:00"));
    }
    found.unambiguous().map_err(|error| Fail::usage(format!("{text} ({name}): {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_this_machines_unless_the_clocks_are_changed_over_it() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let of =
            |text: &str| moment(text, &zone).map(|at| at.to_string()).map_err(|e| e.to_string());
        assert_eq!(of("2027-03-01T02:00:00+01:00").unwrap(), "2027-03-01T01:00:00Z");
        assert_eq!(of("2027-07-01 02:00").unwrap(), "2027-07-01T00:00:00Z");
        for (text, word) in [
            ("2027-03-28T02:30", "does not come"),
            ("2027-10-31T02:30", "comes twice"),
            ("soon", "no time"),
        ] {
            assert!(of(text).unwrap_err().contains(word), "{text}");
        }
        assert_eq!(read(" now ").unwrap(), None);
        assert_eq!(read("2027-03-01T02:00:00Z").unwrap().unwrap(), "2027-03-01T02:00:00+00:00");
    }
}
