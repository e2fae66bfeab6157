//! Which members are away, and since when: their entries vanish from Consul with their sessions, and nobody would
//! know any more that they were there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry::{Entry, Kind};
use super::sight::Entered;

/// An entry outlives its agent by Consul's time for a session: 20 s, and more on a busy machine.
const ENTRY_OUTLIVES_SECS: i64 = 120;

/// So long a member that is away is shown.
const SHOWN_HOURS: i64 = 24;

/// A member that was there and is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Away {
    /// The first sign of it (RFC 3339).
    pub since: String,
    /// Its entry is still there: its session has not ended yet.
    pub entry: bool,
    /// What its entry said last.
    pub conn_url: String,
    /// Its REST API.
    pub api_url: String,
    /// Its role then.
    pub role: String,
    /// Its state then.
    pub state: String,
    /// WAL that its slot keeps on the node that tells this, in bytes.
    pub slot_keeps: Option<u64>,
}

/// In the data of the line that tells that a member is gone.
pub(super) fn gone(last: &Entered) -> Value {
    let Entered { conn_url, api_url, role, state } = last;
    json!({"conn_url": conn_url, "api_url": api_url, "role": role, "state": state})
}

/// What the lines so far say.
#[derive(Debug, Default)]
pub(super) struct Absent {
    away: BTreeMap<String, Away>,
    /// No WAL comes from them, or goes to them, since then.
    quiet: BTreeMap<String, Timestamp>,
}

impl Absent {
    pub fn note(&mut self, entry: &Entry) {
        if entry.kind == Kind::LeaseLost {
            // They are to leave: others tell from now on who is not there.
            self.quiet.clear();
        }
        let Some(name) = entry.about.as_ref() else { return };
        match entry.kind {
            Kind::FollowerGone | Kind::NotStreaming => {
                self.quiet.entry(name.clone()).or_insert(entry.at);
            }
            Kind::Follower | Kind::Streaming => drop(self.quiet.remove(name)),
            Kind::Member if entry.data.is_some() => self.gone(name, entry),
            Kind::Member => {
                self.away.remove(name);
                self.quiet.remove(name);
            }
            _ => {}
        }
    }

    fn gone(&mut self, name: &str, entry: &Entry) {
        let last = entry.data.clone().and_then(|data| serde_json::from_value(data).ok());
        let near = |at: &Timestamp| entry.at.duration_since(*at).as_secs() < ENTRY_OUTLIVES_SECS;
        let since = self.quiet.get(name).copied().filter(near).unwrap_or(entry.at);
        let away = Away { since: shown(since), ..last.unwrap_or_default() };
        self.away.insert(name.to_owned(), away);
    }

    /// Who is away, and who has an entry and gives or gets no WAL. Who is away for longer than a day has been
    /// taken out of the cluster.
    pub fn all(&self, now: Timestamp) -> BTreeMap<String, Away> {
        let quiet = self.quiet.iter().map(|(name, at)| {
            (name.clone(), Away { since: shown(*at), entry: true, ..Away::default() })
        });
        let recent = |away: &Away| {
            let since: Result<Timestamp, _> = away.since.parse();
            since.is_ok_and(|since| now.duration_since(since).as_hours() < SHOWN_HOURS)
        };
        quiet.chain(self.away.clone()).filter(|(_, away)| recent(away)).collect()
    }
}

fn shown(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(ms: i64) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Timestamp::from_millisecond(start.as_millisecond() + ms).unwrap()
    }

    fn about(name: &str, ms: i64, kind: Kind, data: Option<Value>) -> Entry {
        let at = moment(ms);
        let (node, text, about) = ("n1".to_owned(), "x".to_owned(), Some(name.to_owned()));
        Entry { seq: 1, at, up_ms: 0, node, kind, term: None, index: None, about, text, data }
    }

    fn left() -> Option<Value> {
        let entered = Entered {
            conn_url: "postgres://10.0.0.3:5432/postgres".into(),
            role: "replica".into(),
            ..Entered::default()
        };
        Some(gone(&entered))
    }

    #[test]
    fn a_lost_member_is_away_since_its_first_sign() {
        let mut absent = Absent::default();
        absent.note(&about("n3", 1000, Kind::FollowerGone, None));
        let quiet = &absent.all(moment(600_000))["n3"];
        assert_eq!((quiet.entry, quiet.since.as_str()), (true, "2026-01-01T00:00:01.000Z"));
        absent.note(&about("n3", 18_000, Kind::Member, left()));
        let away = &absent.all(moment(600_000))["n3"];
        assert_eq!((away.entry, away.since.as_str()), (false, "2026-01-01T00:00:01.000Z"));
        assert_eq!((away.role.as_str(), away.conn_url.is_empty()), ("replica", false));
        assert_eq!(absent.all(moment(90_000_000)).len(), 0, "after a day it is no member any more");
        absent.note(&about("n3", 60_000, Kind::Member, None));
        assert_eq!(absent.all(moment(600_000)).len(), 0, "it is back");
    }

    #[test]
    fn an_older_trouble_is_not_when_it_went() {
        let mut absent = Absent::default();
        absent.note(&about("n3", 0, Kind::FollowerGone, None));
        absent.note(&about("n3", 500_000, Kind::Member, left()));
        assert_eq!(absent.all(moment(600_000))["n3"].since, "2026-01-01T00:08:20.000Z");
        absent.note(&about("n2", 1, Kind::NotStreaming, None));
        absent.note(&about("n2", 2, Kind::Streaming, None));
        assert!(!absent.all(moment(600_000)).contains_key("n2"));
        absent.note(&about("n2", 3, Kind::FollowerGone, None));
        absent.note(&about("n1", 4, Kind::LeaseLost, None));
        assert!(!absent.all(moment(600_000)).contains_key("n2"), "it was told to leave");
    }
}
