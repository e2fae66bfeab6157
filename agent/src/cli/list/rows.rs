//! From a cluster's keys to rows.

use std::collections::BTreeSet;

use hart_ha::kv::Role;
use hart_ha::lsn::{Lsn, Timeline};

use crate::api::cluster::{MemberRow, members};
use crate::cli::cluster::Cluster;

/// One member, as the table shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name.
    pub member: String,
    /// Host, with the port where it is needed to tell members apart or is not 5432.
    pub host: String,
    /// `Leader`, `Sync Standby`, `Replica`.
    pub role: &'static str,
    /// PostgreSQL's state; `streaming` for a replica that does.
    pub state: String,
    /// Timeline.
    pub timeline: Option<Timeline>,
    /// Received position.
    pub receive: Option<Lsn>,
    /// Bytes behind the leader in receiving.
    pub receive_lag: Option<u64>,
    /// Replayed position.
    pub replay: Option<Lsn>,
    /// Bytes behind the leader in replaying.
    pub replay_lag: Option<u64>,
    /// The number of the reign, for its holder.
    pub term: Option<u64>,
    /// A restart is pending.
    pub pending_restart: bool,
    /// Tags as JSON; empty where there are none.
    pub tags: String,
}

/// The rows in the order of names.
#[must_use]
pub fn rows(cluster: &Cluster) -> Vec<Row> {
    let members = members(&cluster.snapshot);
    let with_port = needs_port(&members);
    members.into_iter().map(|member| row(cluster, member, with_port)).collect()
}

fn needs_port(members: &[MemberRow]) -> bool {
    let hosts: BTreeSet<&str> = members.iter().filter_map(|m| m.host.as_deref()).collect();
    let ports: Vec<u16> = members.iter().filter_map(|member| member.port).collect();
    hosts.len() < ports.len() || ports.iter().any(|port| *port != 5432)
}

fn row(cluster: &Cluster, member: MemberRow, with_port: bool) -> Row {
    let leads = member.is_leader();
    let lease = cluster.snapshot.lease().filter(|lease| lease.is_held());
    let tags = if member.tags.is_empty() { None } else { serde_json::to_string(&member.tags).ok() };
    Row {
        host: shown_host(&member, with_port),
        role: role(cluster, &member),
        term: lease.filter(|lease| lease.holder == member.name).map(|lease| lease.term),
        // Of a leader only its write position is of interest, and nobody is ahead of it.
        receive: member.receive_lsn.filter(|_| !leads),
        replay: member.replay_lsn.filter(|_| !leads),
        receive_lag: member.receive_lag,
        replay_lag: member.replay_lag,
        state: member.state,
        timeline: member.timeline,
        pending_restart: member.pending_restart,
        tags: tags.unwrap_or_default(),
        member: member.name,
    }
}

fn shown_host(member: &MemberRow, with_port: bool) -> String {
    match (&member.host, member.port) {
        (Some(host), Some(port)) if with_port && host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) if with_port => format!("{host}:{port}"),
        (Some(host), _) => host.clone(),
        (None, _) => String::new(),
    }
}

/// patronictl's words, and more than those where a member is not what it should be.
fn role(cluster: &Cluster, member: &MemberRow) -> &'static str {
    let published = cluster.snapshot.member(&member.name).map(|member| member.role);
    match (member.role, published) {
        ("leader", _) => "Leader",
        ("standby_leader", _) => "Standby Leader",
        ("sync_standby", _) => "Sync Standby",
        ("quorum_standby", _) => "Quorum Standby",
        // A primary without the lock was fenced or is about to be.
        (_, Some(Role::Primary)) => "Primary (no lease)",
        (_, Some(Role::Demoted)) => "Demoted",
        (_, Some(Role::Uninitialized)) => "Uninitialized",
        _ => "Replica",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn members_are_described_from_the_keys_alone() {
        let rows = rows(&made());
        let short: Vec<_> = rows
            .iter()
            .map(|row| (row.member.as_str(), row.host.as_str(), row.role, row.state.as_str()))
            .collect();
        let expected = [
            ("n1", "10.0.0.1:5432", "Leader", "running"),
            ("n2", "10.0.0.1:5433", "Sync Standby", "streaming"),
            ("n3", "10.0.0.1:5434", "Replica", "running"),
        ];
        assert_eq!(short, expected);
        assert_eq!((rows[0].term, rows[0].receive_lag), (Some(4), None));
        assert_eq!((rows[1].term, rows[1].receive_lag), (None, Some(0)));
        assert_eq!((rows[2].receive_lag, rows[2].replay_lag), (Some(4 << 20), Some(5 << 20)));
        assert!(rows[2].pending_restart);
        assert_eq!(rows[2].tags, r#"{"nosync":true}"#);
    }
}
