//! The present state: Consul's keys, and what each member says that its decisions rest on.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::store::Snapshot;
use tokio::task::JoinSet;

use crate::api::observe::Observed;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::rest::{self, Rest};

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks, for the rate at which WAL is written.
const APART: Duration = Duration::from_millis(1000);

/// What is known now.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub scope: String,
    pub snapshot: Snapshot,
    pub members: BTreeMap<String, Observed>,
    /// Members that did not answer, and why: they are taken for lost.
    pub silent: BTreeMap<String, String>,
    /// Bytes of WAL that the primary writes in a second.
    pub wal_rate: u64,
}

/// Asks everybody, twice.
///
/// # Errors
/// Nobody leads, or nobody answers: then there is nothing to start from.
pub(super) async fn look(context: &Context, cluster: Cluster) -> Result<Look, Fail> {
    let (first, _) = ask_all(&context.rest, &cluster).await;
    tokio::time::sleep(APART).await;
    // Between the two the settings or the leader may have changed; the later picture counts.
    let cluster = context.cluster().await?;
    let (mut members, silent) = ask_all(&context.rest, &cluster).await;
    let Some(leader) = cluster.leader() else {
        return Err(Fail::failed(format!("cluster {} has no leader now", cluster.scope))
            .hint("`hart why` tells what it waits for"));
    };
    if cluster.snapshot.lease().is_none() {
        return Err(Fail::failed(format!(
            "{leader} is run by Patroni: there is no lease to go by"
        )));
    }
    if !members.contains_key(leader) {
        let why = silent.get(leader).map_or("", String::as_str);
        return Err(Fail::failed(format!("the leader {leader} does not answer: {why}"))
            .hint("its REST API must be reachable from here"));
    }
    let written = |members: &BTreeMap<String, Observed>| {
        members.get(leader).and_then(|seen| Some(seen.sql.as_ref()?.write_lsn))
    };
    let wal_rate = match (written(&first), written(&members)) {
        (Some(before), Some(after)) => per_second(after.bytes_since(before)),
        _ => 0,
    };
    at_one_moment(leader, &mut members);
    Ok(Look { scope: cluster.scope, snapshot: cluster.snapshot, members, silent, wal_rate })
}

/// The members were asked one after the other while the primary wrote on. What it says of those that
/// stream from it is of one moment.
fn at_one_moment(leader: &str, members: &mut BTreeMap<String, Observed>) {
    let rows = members.get(leader).and_then(|seen| seen.sql.as_ref());
    let rows = rows.map(|sql| sql.standbys.clone()).unwrap_or_default();
    for (name, streaming, _, flushed) in rows {
        let standby = members.get_mut(&name).and_then(|seen| seen.sql.as_mut());
        if let Some(sql) = standby.filter(|sql| streaming && sql.in_recovery) {
            (sql.receive_lsn, sql.replay_lsn) = (flushed, flushed);
        }
    }
}

fn per_second(bytes: u64) -> u64 {
    bytes * 1000 / u64::try_from(APART.as_millis()).unwrap_or(1000).max(1)
}

async fn ask_all(
    rest: &Rest,
    cluster: &Cluster,
) -> (BTreeMap<String, Observed>, BTreeMap<String, String>) {
    let mut asked = JoinSet::new();
    for (name, member) in &cluster.snapshot.members {
        let (name, rest) = (name.clone(), rest.clone());
        let url = rest::url(&member.value.api_url, "observe");
        asked.spawn(async move { (name, rest.get(&url, ANSWER).await) });
    }
    let (mut members, mut silent) = (BTreeMap::new(), BTreeMap::new());
    while let Some(joined) = asked.join_next().await {
        let Ok((name, answer)) = joined else { continue };
        let seen = answer.and_then(|answer| match answer.status {
            200 => serde_json::from_str::<Observed>(&answer.text).map_err(|e| e.to_string()),
            status => Err(format!("status {status}: {}", answer.text.trim())),
        });
        // What is not of this member (Patroni answers any path) is no picture of it.
        match seen.and_then(|seen| {
            let own = seen.member == name;
            own.then_some(seen).ok_or_else(|| "it does not tell what it sees".to_owned())
        }) {
            Ok(seen) => drop(members.insert(name, seen)),
            Err(why) => drop(silent.insert(name, why)),
        }
    }
    (members, silent)
}
