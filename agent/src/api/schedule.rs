//! Times for planned actions. They are checked as Patroni does, and then refused: hart does not
//! plan ahead yet, and must not seem to.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::reply::StatusCode;

/// What to answer to a request for `action` at `text`.
pub(super) fn refusal(text: &str, action: &str) -> (StatusCode, String) {
    let Ok(at) = text.trim().parse::<Timestamp>() else {
        if text.trim().parse::<DateTime>().is_ok() {
            let line = format!("Timezone information is mandatory for the scheduled {action}");
            return (StatusCode::BAD_REQUEST, line);
        }
        let line = "Unable to parse scheduled timestamp. It should be in an unambiguous format, \
                    e.g. ISO 8601";
        return (StatusCode::UNPROCESSABLE_ENTITY, line.to_owned());
    };
    if at < hart_clock::wall() {
        return (StatusCode::UNPROCESSABLE_ENTITY, format!("Cannot schedule {action} in the past"));
    }
    let line = format!(
        "A scheduled {action} is not supported yet, and nothing was scheduled; send the request \
         without a time when it is due"
    );
    (StatusCode::NOT_IMPLEMENTED, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_before_they_are_refused() {
        let status = |text: &str| refusal(text, "switchover").0.as_u16();
        assert_eq!(status("soon"), 422);
        assert_eq!(status("2126-01-01T00:00:00"), 400);
        assert_eq!(status("2020-01-01T00:00:00+00:00"), 422);
        assert_eq!(status("2126-01-01T00:00:00+02:00"), 501);
        assert_eq!(status("2126-01-01 00:00:00Z"), 501);
    }
}
