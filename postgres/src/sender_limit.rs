//! How long the sender of a standby's WAL waits for that standby to take what it is sent.
//!
//! `wal_sender_timeout` ends a sender whose standby says nothing. It does not count any more once the sender has been
//! told to end, as the checkpointer tells it that gives up its slot (`max_slot_wal_keep_size`): it sends a
//! farewell, for ever where the standby's host or receiver is frozen, and the checkpointer waits for it. TCP's own limit
//! still counts then. It counts in a living connection as well, while the standby takes nothing; so it is longer than
//! `wal_sender_timeout`, and never the first to end such a connection.
//!
//! From PostgreSQL 19 on `wal_sender_shutdown_timeout` bounds what a shutdown waits for. It counts for the senders of
//! standbys as for those of subscribers, and from the same moment: while a subscriber that is slow holds the shutdown
//! checkpoint up, standbys that have everything are waiting for that record, and are cut off without it. Then nobody
//! can prove to have all. So it is short for everybody but hart's standbys, whose senders have no such limit.

use crate::settings::Settings;

/// PostgreSQL's name for it, and the unit in which it takes a number: milliseconds.
const NAME: &str = "wal_sender_timeout";
/// As hart writes it where the configuration says nothing.
pub(crate) const DEFAULT: &str = "5s";
/// How long a shutdown waits for senders of others than standbys; and since which version.
pub(crate) const SHUTDOWN: &str = "wal_sender_shutdown_timeout";
pub(crate) const SHUTDOWN_SINCE: u32 = 19;
/// As hart writes it where the configuration says nothing. A subscriber goes on where it was, on the next primary.
pub(crate) const SHUTDOWN_DEFAULT: &str = "10s";
/// In force where the configuration says something that PostgreSQL does not take.
const POSTGRESQL_DEFAULT: u64 = 60_000;

/// Milliseconds; `None` where the site has switched `wal_sender_timeout` off, so that nothing is to be cut.
fn limit(settings: &Settings) -> Option<u64> {
    let given = settings.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(NAME));
    let timeout = milliseconds(given.map_or(DEFAULT, |(_, value)| value));
    let timeout = timeout.unwrap_or(POSTGRESQL_DEFAULT);
    (timeout > 0).then(|| (2 * timeout).min(i32::MAX.unsigned_abs().into()))
}

/// What a standby asks of its sender of this version, as part of `options`.
pub(crate) fn for_sender(settings: &Settings, major: u32) -> String {
    let shutdown =
        if major >= SHUTDOWN_SINCE { format!(" -c {SHUTDOWN}=-1") } else { String::new() };
    let tcp = limit(settings).map(|limit| format!(" -c tcp_user_timeout={limit}"));
    tcp.unwrap_or_default() + &shutdown
}

/// A time as PostgreSQL reads it for a parameter in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let value = (amount.parse::<f64>().ok()? * factor).round_ties_even();
    // Beyond it PostgreSQL does not take it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in these bounds")]
    (0.0..=f64::from(i32::MAX)).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_cut_by_tcp_later_than_by_its_own_timeout() {
        let of = |value: Option<&str>| {
            let mut settings = Settings::new("demo", "n1", "/nonexistent");
            let value = value.map(|value| ("WAL_sender_timeout".to_owned(), value.to_owned()));
            settings.parameters.extend(value);
            for_sender(&settings, 18)
        };
        for (value, expected) in [
            (None, "10000"),
            (Some("60000"), "120000"),
            (Some("1min"), "120000"),
            (Some("1.5 s"), "3000"),
            (Some("24d"), "2147483647"),
            (Some("25d"), "120000"),
            (Some("soon"), "120000"),
        ] {
            assert_eq!(of(value), format!(" -c tcp_user_timeout={expected}"), "{value:?}");
        }
        for off in ["0", "0ms", " 0 s"] {
            assert_eq!(of(Some(off)), "", "{off}");
        }
    }

    #[test]
    fn a_shutdown_never_cuts_a_standby_off_from_the_last_record() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        assert!(for_sender(&settings, 19).ends_with(" -c wal_sender_shutdown_timeout=-1"));
        settings.parameters.insert("wal_sender_timeout".to_owned(), "0".to_owned());
        assert_eq!(for_sender(&settings, 19), " -c wal_sender_shutdown_timeout=-1");
        assert_eq!(for_sender(&settings, 18), "", "which would refuse the connection");
    }
}
