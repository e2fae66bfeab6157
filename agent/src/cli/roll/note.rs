//! What the key `roll` says of a rolling restart: who, since when, and what is being done. The others read it.

use std::collections::BTreeMap;

use hart_consul::KvPair;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cli::list::heard::shown;

/// The key below the cluster's folder.
pub const KEY: &str = "roll";
/// For so long one that was stopped is told of: afterwards nobody will go on with it.
const NEWS: SignedDuration = SignedDuration::from_hours(24);

/// What is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Who is at it: user, host and process.
    pub by: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// What it is for: the options of `hart roll`.
    pub work: String,
    /// What is being done, or was done last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// Why it has stopped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stopped: String,
    /// When each member's PostgreSQL had been started before it began: who has another time is done.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub started: BTreeMap<String, String>,
}

/// A rolling restart, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rolling {
    /// What it says.
    pub note: Note,
    /// Its process lives, or has not been away for long.
    pub locked: bool,
}

impl Rolling {
    /// Of these keys of a cluster.
    pub fn of(prefix: &str, pairs: &[KvPair]) -> Option<Self> {
        pairs.iter().find(|pair| pair.key.strip_prefix(prefix) == Some(KEY)).map(Self::read)
    }

    /// What cannot be read says nothing.
    pub fn read(pair: &KvPair) -> Self {
        let note = serde_json::from_slice(&pair.value).unwrap_or_default();
        Self { note, locked: pair.session.is_some() }
    }

    /// Is it under way, or was it not long ago?
    pub fn is_news(&self, now: Timestamp) -> bool {
        let since: Option<Timestamp> = self.note.since.parse().ok();
        self.locked || since.is_some_and(|since| now.duration_since(since) < NEWS)
    }

    /// For people.
    pub fn sentence(&self, scope: &str) -> String {
        let Note { by, since, work, at, stopped, .. } = &self.note;
        let command = format!("hart roll {scope} {work}");
        let (command, since) = (command.trim(), shown(since));
        let (now, ended) = match at.as_str() {
            "" => (String::new(), "before its first step".to_owned()),
            at => (format!("{at}; "), format!("while {at}")),
        };
        match stopped.as_str() {
            _ if self.locked => {
                format!("A rolling restart ({command}) is under way: {now}{by}, since {since}")
            }
            "" => format!(
                "A rolling restart of {by}, since {since}, was broken off {ended}; to go on: {command}"
            ),
            why => format!(
                "A rolling restart of {by}, since {since}, has stopped: {why}; to go on: {command}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(locked: bool, stopped: &str) -> Rolling {
        let note = Note {
            by: "me@db1 (process 7)".into(),
            since: "2026-12-01T12:00:00.25Z".into(),
            work: "--all".into(),
            at: "restarting PostgreSQL of n2".into(),
            stopped: stopped.into(),
            ..Note::default()
        };
        Rolling { note, locked }
    }

    #[test]
    fn others_read_who_is_at_it_and_where_it_stands() {
        assert_eq!(
            rolling(true, "").sentence("ha"),
            "A rolling restart (hart roll ha --all) is under way: restarting PostgreSQL of n2; me@db1 (process 7), \
             since 2026-12-01 12:00:00 UTC"
        );
        assert_eq!(
            rolling(false, "").sentence("ha"),
            "A rolling restart of me@db1 (process 7), since 2026-12-01 12:00:00 UTC, was broken off while restarting \
             PostgreSQL of n2; to go on: hart roll ha --all"
        );
        let stopped = rolling(false, "n3 does not answer").sentence("ha");
        assert!(stopped.contains("has stopped: n3 does not answer; to go on: hart roll ha --all"));
    }

    #[test]
    fn what_was_stopped_is_forgotten_after_a_day() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(rolling(false, "").is_news(at("2026-12-02T11:00:00Z")));
        assert!(!rolling(false, "").is_news(at("2026-12-02T13:00:00Z")));
        assert!(rolling(true, "").is_news(at("2026-12-02T13:00:00Z")), "it is under way");
        assert!(!Rolling::default().is_news(at("2026-12-02T13:00:00Z")));
    }

    #[test]
    fn it_is_read_from_the_clusters_keys() {
        let text = serde_json::to_vec(&rolling(true, "").note).unwrap();
        let pair = |key: &str, value: &[u8], session: Option<&str>| KvPair {
            key: key.to_owned(),
            value: value.to_vec(),
            create_index: 1,
            modify_index: 1,
            lock_index: 0,
            flags: 0,
            session: session.map(str::to_owned),
        };
        let pairs =
            [pair("service/ha/rolls", b"", None), pair("service/ha/roll", &text, Some("s"))];
        assert_eq!(Rolling::of("service/ha/", &pairs), Some(rolling(true, "")));
        assert_eq!(Rolling::of("service/other/", &pairs), None);
        let odd = Rolling::read(&pair("service/ha/roll", b"what", None));
        assert_eq!(odd, Rolling::default());
    }
}
