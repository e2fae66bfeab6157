//! One reading of a cluster's keys.

use hart_consul::{Client, KvPair, ReadOptions};
use hart_ha::kv::{Member, Role};
use hart_ha::store::{RawEntry, Snapshot};

use crate::cli::Fail;
use crate::cli::roll::Rolling;

/// A cluster as one consistent reading of Consul showed it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Its name.
    pub scope: String,
    /// Its keys.
    pub snapshot: Snapshot,
    /// A rolling restart that is under way, or has stopped not long ago.
    pub roll: Option<Rolling>,
    found: bool,
}

impl Cluster {
    /// Reads all keys below `prefix`; those that cannot be understood are named on stderr.
    ///
    /// # Errors
    /// Consul cannot be read.
    pub async fn read(
        consul: &Client,
        scope: &str,
        prefix: &str,
    ) -> Result<Self, hart_consul::Error> {
        let read = consul.kv().get_recurse(prefix, &ReadOptions::consistent()).await?;
        Ok(Self::of(scope, prefix, &read.value))
    }

    /// The cluster that these pairs describe; those that cannot be understood are named on stderr.
    #[must_use]
    pub fn of(scope: &str, prefix: &str, pairs: &[KvPair]) -> Self {
        let cluster = Self::from_entries(scope, below_prefix(pairs, prefix));
        let roll = Rolling::of(prefix, pairs).filter(|roll| roll.is_news(hart_clock::wall()));
        Self { roll, found: !pairs.is_empty(), ..cluster }
    }

    /// The cluster that these entries describe; those that cannot be understood are named on stderr.
    #[must_use]
    pub fn from_entries<'a>(scope: &str, entries: impl Iterator<Item = RawEntry<'a>>) -> Self {
        let (snapshot, unreadable) = Snapshot::read(entries);
        for problem in unreadable {
            eprintln!("hart: warning: {problem}");
        }
        Self { scope: scope.to_owned(), snapshot, roll: None, found: true }
    }

    /// Is nothing there?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.found
    }

    /// The leader's name, where there is one.
    #[must_use]
    pub fn leader(&self) -> Option<&str> {
        self.snapshot.leader_name()
    }

    /// A member's entry.
    ///
    /// # Errors
    /// There is no such member.
    pub fn member(&self, name: &str) -> Result<&Member, Fail> {
        self.snapshot.member(name).ok_or_else(|| {
            let known: Vec<&str> = self.snapshot.members.keys().map(String::as_str).collect();
            Fail::failed(format!("cluster {} has no member \"{name}\"", self.scope))
                .hint(format!("its members are: {}", known.join(", ")))
        })
    }

    /// Names and entries of all members, by name: the order of `hart list`.
    pub fn by_name(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.snapshot.members.iter().map(|(name, m)| (name.as_str(), &m.value))
    }

    /// Names and entries of all members, the leader first.
    #[must_use]
    pub fn leader_first(&self) -> Vec<(&str, &Member)> {
        let mut members: Vec<(&str, &Member)> = self.by_name().collect();
        members.sort_by_key(|(name, _)| Some(*name) != self.leader());
        members
    }

    /// Members that could take over: all but the leader and those that never may.
    #[must_use]
    pub fn candidates(&self) -> Vec<&str> {
        self.leader_first()
            .into_iter()
            .filter(|(name, m)| Some(*name) != self.leader() && m.tags.may_fail_over())
            .filter(|(_, m)| m.role != Role::Uninitialized)
            .map(|(name, _)| name)
            .collect()
    }
}

/// The folder of a cluster in Consul.
#[must_use]
pub fn prefix(namespace: &str, scope: &str) -> String {
    if namespace.is_empty() { format!("{scope}/") } else { format!("{namespace}/{scope}/") }
}

/// Consul's pairs as the brain's store wants them.
pub fn below_prefix<'a>(
    pairs: &'a [KvPair],
    prefix: &'a str,
) -> impl Iterator<Item = RawEntry<'a>> {
    pairs.iter().filter_map(move |pair| {
        Some(RawEntry {
            key: pair.key.strip_prefix(prefix)?,
            value: &pair.value,
            index: pair.modify_index,
            session: pair.session.as_deref(),
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Three nodes: `n1` leads with a synchronous standby `n2`; `n3` lags and wants a restart.
    pub(crate) fn made() -> Cluster {
        let member = |port: u16, rest: &str| {
            format!(
                r#"{{"conn_url":"postgres://10.0.0.1:{port}/postgres",
                "api_url":"http://10.0.0.1:1{port}/patroni","timeline":2,"hart":"0.1.0",{rest}}}"#
            )
        };
        let entries = [
            ("initialize", "7301234567890123456".to_owned()),
            ("leader", "n1".to_owned()),
            ("config", r#"{"synchronous_mode":true}"#.to_owned()),
            (
                "status",
                r#"{"optime":67108864,"lease":{"holder":"n1","term":4,"ttl_ms":3000,"beat":9,
                "state":"held"}}"#
                    .to_owned(),
            ),
            ("sync", r#"{"leader":"n1","quorum":0,"sync_standby":"n2"}"#.to_owned()),
            (
                "members/n1",
                member(5432, r#""state":"running","role":"primary","xlog_location":67108864"#),
            ),
            (
                "members/n2",
                member(
                    5433,
                    r#""state":"running","role":"replica","replication_state":"streaming",
                    "receive_lsn":67108864,"replay_lsn":67108864"#,
                ),
            ),
            (
                "members/n3",
                member(
                    5434,
                    r#""state":"running","role":"replica","receive_lsn":62914560,
                    "replay_lsn":61865984,"pending_restart":true,"tags":{"nosync":true}"#,
                ),
            ),
        ];
        let raw = entries.iter().map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 7,
            session: None,
        });
        let (snapshot, problems) = Snapshot::read(raw);
        assert_eq!(problems, []);
        Cluster { scope: "ha".into(), snapshot, roll: None, found: true }
    }

    #[test]
    fn the_leader_comes_first_and_cannot_be_a_candidate() {
        let cluster = made();
        let names: Vec<_> = cluster.leader_first().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert_eq!(cluster.candidates(), ["n2", "n3"]);
        let fail = cluster.member("n9").unwrap_err().to_string();
        assert!(fail.contains("n1, n2, n3"), "{fail}");
    }
}
