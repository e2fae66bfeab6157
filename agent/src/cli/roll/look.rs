//! What the members show: Consul's keys, and each member's own words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hart_ha::kv::{Change, State, SynchronousMode};
use tokio::task::JoinSet;

use super::plan::{Picture, Seen};
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::rest;
use crate::journal::Away;
use crate::node::status::{PeerStatus, Xlog};

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What a replica must not have less of than its primary.
const NO_LESS: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

type Answers = BTreeMap<String, Result<PeerStatus, String>>;

/// Asks Consul and all members. Names in `known` that are gone count as away; new ones are added.
///
/// # Errors
/// Consul cannot be read.
pub async fn look(
    context: &Context,
    known: &mut BTreeSet<String>,
) -> Result<(Cluster, Picture), String> {
    let cluster = context.cluster().await.map_err(|fail| fail.to_string())?;
    let answers = ask(context, &cluster).await;
    let picture = picture(&cluster, &answers, known);
    known.extend(picture.members.iter().map(|seen| seen.name.clone()));
    Ok((cluster, picture))
}

async fn ask(context: &Context, cluster: &Cluster) -> Answers {
    let mut asked = JoinSet::new();
    for (name, member) in &cluster.snapshot.members {
        let (rest, url) = (context.rest.clone(), rest::url(&member.value.api_url, "patroni"));
        let name = name.clone();
        asked.spawn(async move { (name, rest.get_status(&url, ANSWER).await) });
    }
    asked.join_all().await.into_iter().collect()
}

fn picture(cluster: &Cluster, answers: &Answers, known: &BTreeSet<String>) -> Picture {
    let leader = cluster.leader().map(str::to_owned);
    let said = |name: &str| answers.get(name).and_then(|answer| answer.as_ref().ok());
    let own = leader.as_deref().and_then(said);
    let end = own.and_then(|status| status.xlog.as_ref()?.furthest());
    let standbys = cluster.snapshot.sync.as_ref().map(|sync| sync.value.standbys());
    let standbys = standbys.unwrap_or_default();
    let config = cluster.snapshot.config.as_ref().map(|config| config.value.clone());
    let config = config.unwrap_or_default();
    let mut members: Vec<Seen> = Vec::new();
    for name in cluster.snapshot.members.keys() {
        let answer = answers.get(name).cloned().unwrap_or_else(|| Err("not asked".to_owned()));
        let mut seen = seen(name, answer);
        seen.sync = standbys.contains(name);
        // In synchronous mode only the published ones may lead, which may be others by then.
        let fit =
            said(name).and_then(|status| status.hart.as_ref()).is_some_and(|own| own.word.may_lead);
        seen.may_lead &= fit || config.synchronous_mode != SynchronousMode::Off;
        let has = said(name).and_then(|status| status.xlog.as_ref().and_then(Xlog::furthest));
        seen.lag = end.zip(has).map_or(0, |(end, has)| end.bytes_since(has));
        members.push(seen);
    }
    let gone = absent(cluster, own.and_then(|status| Some(&status.hart.as_ref()?.away)), known);
    members.extend(gone);
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let asked = cluster.snapshot.failover.as_ref();
    Picture {
        leader,
        paused: config.pause,
        asked: asked.is_some_and(|asked| !asked.value.is_empty()),
        sync_wanted: sync_wanted(cluster, &members, &config),
        lag_max: config.maximum_lag_on_failover,
        members,
    }
}

/// As many as the settings want, but not more than there are members that can be.
fn sync_wanted(cluster: &Cluster, members: &[Seen], config: &hart_ha::kv::DynamicConfig) -> usize {
    let may = |name: &str| {
        cluster.snapshot.member(name).is_some_and(|member| !member.tags.nosync)
            && cluster.leader() != Some(name)
    };
    let able = members.iter().filter(|seen| seen.silent.is_none() && may(&seen.name)).count();
    match config.synchronous_mode {
        SynchronousMode::Off => 0,
        SynchronousMode::On => config.synchronous_node_count.min(able),
        SynchronousMode::Quorum => able,
    }
}

/// Members whose entries have gone: by this run's memory, and by the leader's.
fn absent(
    cluster: &Cluster,
    away: Option<&BTreeMap<String, Away>>,
    known: &BTreeSet<String>,
) -> Vec<Seen> {
    let mut names: BTreeMap<String, String> = known
        .iter()
        .map(|name| (name.clone(), "its entry has gone from Consul".to_owned()))
        .collect();
    for (name, it) in away.into_iter().flatten() {
        names.insert(
            name.clone(),
            format!("away since {}", crate::cli::list::heard::shown(&it.since)),
        );
    }
    let gone = names.into_iter().filter(|(name, _)| cluster.snapshot.member(name).is_none());
    gone.map(|(name, why)| Seen { name, silent: Some(why), ..Seen::default() }).collect()
}

fn seen(name: &str, answer: Result<PeerStatus, String>) -> Seen {
    let name = name.to_owned();
    let status = match answer {
        Ok(status) => status,
        Err(why) => return Seen { name, silent: Some(why), ..Seen::default() },
    };
    let Some(own) = &status.hart else {
        let silent = Some("it is run by Patroni".to_owned());
        return Seen { name, silent, ..Seen::default() };
    };
    let reasons = &status.pending_restart_reason;
    let shown = |(name, it): (&String, &Change)| {
        (name.clone(), format!("{name} {} → {}", it.old_value, it.new_value))
    };
    let mut pending: BTreeMap<String, String> = reasons.iter().map(shown).collect();
    if pending.is_empty() && status.pending_restart {
        let names = own.pending_restart.clone().unwrap_or_else(|| vec!["a parameter".to_owned()]);
        pending.extend(names.into_iter().map(|name| (name.clone(), name)));
    }
    let lowered = reasons.iter().filter(|(name, it)| is_lowered(name, it));
    let running = status.state == State::Running;
    Seen {
        silent: None,
        leads: running
            && own.word.lease.is_some()
            && matches!(status.xlog, Some(Xlog::Primary { .. })),
        running: running && own.trouble.is_none(),
        streaming: status.replication_state.as_deref() == Some("streaming"),
        timeline: status.timeline,
        lag: 0,
        sync: false,
        may_lead: status.tags.may_fail_over(),
        lowered: lowered.map(|(name, _)| name.clone()).collect(),
        pending,
        version: status.server_version,
        installed: own.postgresql_installed,
        agent: own.version.clone(),
        agent_installed: own.installed.clone(),
        started: status.postmaster_start_time.clone(),
        complaint: own.complaint.clone(),
        name,
    }
}

fn is_lowered(name: &str, change: &Change) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let both = number(&change.old_value).zip(number(&change.new_value));
    NO_LESS.contains(&name) && both.is_some_and(|(old, new)| new < old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;
    use crate::node::status::tests::running;

    /// Of [`made`]: n1 leads, n2 is synchronous; here n3 does not answer, and n9 has gone.
    #[test]
    fn the_picture_is_what_consul_and_the_members_show() {
        let mut first = running();
        first.pending_restart = true;
        let change = |old: &str, new: &str| Change { old_value: old.into(), new_value: new.into() };
        first.pending_restart_reason = [
            ("max_connections".to_owned(), change("200", "100")),
            ("max_wal_senders".to_owned(), change("10", "12")),
            ("shared_buffers".to_owned(), change("200", "100")),
        ]
        .into();
        let answers = [
            ("n1".to_owned(), Ok(first)),
            ("n2".to_owned(), Ok(running())),
            ("n3".to_owned(), Err("refused".to_owned())),
        ];
        let picture = picture(&made(), &answers.into(), &["n9".to_owned()].into());
        let names: Vec<&str> = picture.members.iter().map(|seen| seen.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3", "n9"]);
        assert_eq!((picture.leader.as_deref(), picture.sync_wanted), (Some("n1"), 1));
        let [first, second, third, gone] = &picture.members[..] else { panic!() };
        assert_eq!(first.lowered, ["max_connections"]);
        assert_eq!(first.pending["max_wal_senders"], "max_wal_senders 10 → 12");
        assert!(second.sync && second.streaming && second.running && second.may_lead);
        assert_eq!(third.silent.as_deref(), Some("refused"));
        assert!(gone.silent.as_ref().is_some_and(|why| why.contains("gone from Consul")));
    }
}
