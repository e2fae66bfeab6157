//! A cluster's keys as the responder wants them. Pure.

use hart_dns::{Cluster, Host, Member};
use hart_ha::brain::host_and_port;
use hart_ha::kv::{Member as Entry, Role, State};
use hart_ha::store::Snapshot;

use super::options::Options;

/// The member that leads according to the store: the holder of a lease that is not given up, or
/// without a lease (Patroni leads) who has the lock.
pub fn leader(snapshot: &Snapshot) -> Option<&str> {
    match snapshot.lease() {
        Some(lease) => lease.is_held().then_some(lease.holder.as_str()),
        None => {
            let leader = snapshot.leader.as_ref().filter(|leader| leader.session.is_some())?;
            Some(leader.value.as_str()).filter(|name| !name.is_empty())
        }
    }
}

/// The cluster, with `primary` in the lead. Members whose address cannot be read are left out; the
/// texts say which.
pub fn cluster(
    scope: &str,
    snapshot: &Snapshot,
    primary: Option<&str>,
    options: &Options,
) -> (Cluster, Vec<String>) {
    let mut complaints = Vec::new();
    let mut members = Vec::new();
    for (name, entry) in &snapshot.members {
        match member(name, &entry.value, snapshot, primary, options) {
            Ok(member) => members.push(member),
            Err(problem) => {
                complaints
                    .push(format!("member {name:?} of cluster {scope:?} has no name: {problem}"));
            }
        }
    }
    let mut proxies = options.proxies.clone();
    if proxies.is_empty() {
        proxies = members.iter().map(|member| member.host.clone()).collect();
    }
    let cluster =
        Cluster { scope: scope.to_owned(), members, primary: primary.map(str::to_owned), proxies };
    (cluster, complaints)
}

fn member(
    name: &str,
    entry: &Entry,
    snapshot: &Snapshot,
    primary: Option<&str>,
    options: &Options,
) -> Result<Member, String> {
    let (host, port) = host_and_port(&entry.conn_url).ok_or_else(|| {
        format!("its conn_url \"{}\" has no address", entry.conn_url.escape_debug())
    })?;
    let host: Host = host.parse().map_err(|error: hart_dns::NameError| error.to_string())?;
    let lag = lag(entry, snapshot);
    let replica = entry.role == Role::Replica && entry.state == State::Running;
    let near = lag.is_none_or(|lag| lag <= options.max_lag);
    let sync = snapshot.sync.as_ref().is_some_and(|sync| sync.value.is_complete(name));
    Ok(Member {
        name: name.to_owned(),
        host,
        port,
        reads: replica && near && !entry.tags.noloadbalance,
        sync: replica && sync,
        facts: facts(entry, primary == Some(name), replica && sync, lag),
    })
}

/// Bytes that a replica has not replayed, as far as both have said.
fn lag(entry: &Entry, snapshot: &Snapshot) -> Option<u64> {
    let written = snapshot.status.as_ref()?.value.optime?;
    let replayed = entry.replay_lsn.or(entry.xlog_location)?;
    (entry.role == Role::Replica).then(|| written.bytes_since(replayed))
}

fn facts(entry: &Entry, leads: bool, sync: bool, lag: Option<u64>) -> Vec<String> {
    let role = match (leads, sync) {
        (true, _) => "primary",
        (false, true) => "sync",
        (false, false) => entry.role.as_str(),
    };
    let mut facts = vec![format!("role={role}"), format!("state={}", entry.state)];
    facts.extend(entry.timeline.map(|timeline| format!("timeline={timeline}")));
    facts.extend(lag.filter(|_| !leads).map(|lag| format!("lag={lag}")));
    facts
}
