//! From a cluster's keys to rows.

use std::collections::BTreeSet;

use hart_ha::brain::host_and_port;
use hart_ha::kv::Role;
use hart_ha::lsn::{Lsn, Timeline};
use serde_json::{Map, Value};

use crate::api::cluster::{MemberRow, members};
use crate::cli::cluster::Cluster;
use crate::cli::list::heard::{Heard, shown};
use crate::journal::Away;

/// Of a primary that has no lease.
const NO_LEASE: &str = "Primary (no lease)";

/// One member, as the table shows it.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// What it would change, `name: old->new` on a line of its own.
    pub pending_restart_reason: String,
    /// When one is planned, and for which versions of PostgreSQL.
    pub scheduled_restart: String,
    /// Tags; empty where there are none.
    pub tags: Map<String, Value>,
}

/// The rows in the order of names; behind them those of lost members that Consul shows no more.
#[must_use]
pub fn rows(cluster: &Cluster, heard: &Heard) -> Vec<Row> {
    let members = members(&cluster.snapshot);
    let with_port = needs_port(&members);
    let away = heard.away();
    let mut rows: Vec<Row> =
        members.into_iter().map(|member| row(cluster, member, with_port)).collect();
    for row in rows.iter_mut().filter(|row| heard.is_silent(&row.member)) {
        silent(row, away.get(&row.member));
    }
    let gone = away.iter().filter(|(_, away)| !away.entry);
    let holder =
        cluster.snapshot.lease().filter(|lease| lease.is_held()).map(|lease| &lease.holder);
    for (name, away) in gone {
        let mut row = lost(name, away, with_port);
        if holder == Some(name) {
            // Left running in a pause, or still within its lease.
            row.role = "Leader";
            row.state = format!("its agent is away since {}", shown(&away.since));
        }
        rows.push(row);
    }
    rows
}

/// Consul shows it as it was.
fn silent(row: &mut Row, away: Option<&Away>) {
    row.state = match away {
        Some(away) => format!("lost since {}", shown(&away.since)),
        None => format!("{}, its agent does not answer", row.state),
    };
    if row.role == NO_LEASE {
        row.role = "Former leader";
    }
}

fn lost(name: &str, away: &Away, with_port: bool) -> Row {
    let host = host_and_port(&away.conn_url).map(|(host, port)| match with_port {
        true if host.contains(':') => format!("[{host}]:{port}"),
        true => format!("{host}:{port}"),
        false => host,
    });
    let stopped = if away.state == "stopped" { "stopped, gone" } else { "lost" };
    Row {
        member: name.to_owned(),
        host: host.unwrap_or_default(),
        role: if away.role == "primary" { "Former leader" } else { "Replica" },
        state: format!("{stopped} since {}", shown(&away.since)),
        ..Row::default()
    }
}

fn needs_port(members: &[MemberRow]) -> bool {
    let hosts: BTreeSet<&str> = members.iter().filter_map(|m| m.host.as_deref()).collect();
    let ports: Vec<u16> = members.iter().filter_map(|member| member.port).collect();
    hosts.len() < ports.len() || ports.iter().any(|port| *port != 5432)
}

fn row(cluster: &Cluster, member: MemberRow, with_port: bool) -> Row {
    let leads = member.is_leader();
    let lease = cluster.snapshot.lease().filter(|lease| lease.is_held());
    let tags = serde_json::to_value(&member.tags).ok();
    let tags = tags.and_then(|tags| tags.as_object().cloned()).unwrap_or_default();
    Row {
        host: shown_host(&member, with_port),
        role: role(cluster, &member),
        term: lease.filter(|lease| lease.holder == member.name).map(|lease| lease.term),
        // Of a leader only its write position is of interest, and nobody is ahead of it.
        receive: member.receive_lsn.filter(|_| !leads),
        replay: member.replay_lsn.filter(|_| !leads),
        receive_lag: member.receive_lag,
        replay_lag: member.replay_lag,
        pending_restart_reason: reason(&member),
        scheduled_restart: scheduled(&member),
        state: member.state,
        timeline: member.timeline,
        pending_restart: member.pending_restart,
        tags,
        member: member.name,
    }
}

/// In patronictl's words.
fn reason(member: &MemberRow) -> String {
    let changes = member.pending_restart_reason.iter();
    let lines: Vec<String> = changes
        .map(|(name, change)| format!("{name}: {}->{}", change.old_value, change.new_value))
        .collect();
    lines.join("\n")
}

fn scheduled(member: &MemberRow) -> String {
    let Some(planned) = &member.scheduled_restart else { return String::new() };
    let word = |key: &str| planned.get(key).and_then(Value::as_str);
    let below = word("postgres_version").map(|version| format!(" if version < {version}"));
    format!("{}{}", word("schedule").unwrap_or_default(), below.unwrap_or_default())
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
        (_, Some(Role::Primary)) => NO_LEASE,
        (_, Some(Role::Demoted)) => "Demoted",
        (_, Some(Role::Uninitialized)) => "Uninitialized",
        _ => "Replica",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;
    use crate::node::status::PeerStatus;
    use crate::node::status::tests::running;

    #[test]
    fn members_are_described_from_the_keys_alone() {
        let rows = rows(&made(), &Heard::default());
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
        assert_eq!(Value::from(rows[2].tags.clone()), serde_json::json!({"nosync": true}));
    }

    fn said(away: &[(&str, Away)]) -> PeerStatus {
        let mut status = running();
        let own = status.hart.as_mut().unwrap();
        own.away = away.iter().map(|(name, away)| ((*name).to_owned(), away.clone())).collect();
        status
    }

    fn since(entry: bool, role: &str) -> Away {
        let since = "2026-01-01T00:00:01.500Z".into();
        let conn_url = "postgres://10.0.0.9:5432/postgres".into();
        Away { since, entry, conn_url, role: role.into(), ..Away::default() }
    }

    /// Its entry says "primary, running" until its session ends.
    #[test]
    fn a_lost_leader_is_shown_as_lost_before_and_after_its_entry_goes() {
        let mut cluster = made();
        cluster.snapshot.leader.as_mut().unwrap().value = "n2".into();
        let refused = || Err("connection refused".to_owned());
        let answers = [
            ("n1", refused()),
            ("n2", Ok(said(&[("n1", since(true, ""))]))),
            ("n3", Ok(said(&[]))),
        ];
        let found = rows(&cluster, &Heard::made(&answers, "n2"));
        assert_eq!(
            (found[0].role, found[0].state.as_str()),
            ("Former leader", "lost since 2026-01-01 00:00:01 UTC")
        );
        // From a machine that reaches nobody it is as Consul has it.
        let nobody = ["n1", "n2", "n3"].map(|name| (name, refused()));
        assert_eq!(rows(&cluster, &Heard::made(&nobody, "n2"))[0].state, "running");

        cluster.snapshot.members.remove("n1");
        let lease = cluster.snapshot.status.as_mut().unwrap().value.lease.as_mut().unwrap();
        lease.holder = "n2".into();
        let answers = [("n2", Ok(said(&[("n1", since(false, "primary"))])))];
        let found = rows(&cluster, &Heard::made(&answers, "n2"));
        let lost = found.last().unwrap();
        assert_eq!(
            (lost.member.as_str(), lost.role, lost.host.as_str()),
            ("n1", "Former leader", "10.0.0.9:5432")
        );
        assert_eq!(lost.state, "lost since 2026-01-01 00:00:01 UTC", "no lease is its own");
    }

    /// Its PostgreSQL goes on in a pause.
    #[test]
    fn a_leader_whose_agent_is_away_is_not_lost() {
        let mut cluster = made();
        cluster.snapshot.members.remove("n1");
        let answers = [("n2", Ok(said(&[("n1", since(false, "primary"))])))];
        let found = rows(&cluster, &Heard::made(&answers, "n1"));
        let row = found.last().unwrap();
        assert_eq!(
            (row.role, row.state.as_str()),
            ("Leader", "its agent is away since 2026-01-01 00:00:01 UTC")
        );
    }
}
