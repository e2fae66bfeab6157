//! Times for planned actions, checked as Patroni does.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::reply::StatusCode;
use super::wish::Refused;

/// When `action` is to happen.
///
/// # Errors
/// 422 for what is no time, or a time in the past; 400 for one without a zone.
pub(super) fn read(text: &str, action: &str) -> Result<Timestamp, Refused> {
    let Ok(at) = text.trim().parse::<Timestamp>() else {
        if text.trim().parse::<DateTime>().is_ok() {
            let line = format!("Timezone information is mandatory for the scheduled {action}");
            return Err((StatusCode::BAD_REQUEST, line));
        }
        let line = "Unable to parse scheduled timestamp. It should be in an unambiguous format, \
                    e.g. ISO 8601";
        return Err((StatusCode::UNPROCESSABLE_ENTITY, line.to_owned()));
    };
    if at < hart_clock::wall() {
        let line = format!("Cannot schedule {action} in the past");
        return Err((StatusCode::UNPROCESSABLE_ENTITY, line));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone_and_is_to_come() {
        let status = |text: &str| read(text, "switchover").unwrap_err().0.as_u16();
        assert_eq!(status("soon"), 422);
        assert_eq!(status("2126-01-01T00:00:00"), 400);
        assert_eq!(status("2020-01-01T00:00:00+00:00"), 422);
        let at = read("2126-01-01T00:00:00+02:00", "switchover").unwrap();
        assert_eq!(hart_clock::with_offset(at), "2125-12-31T22:00:00+00:00");
        let at = read("2126-01-01 00:00:00.25Z", "switchover").unwrap();
        assert_eq!(hart_clock::with_offset(at), "2126-01-01T00:00:00.25+00:00");
    }
}
