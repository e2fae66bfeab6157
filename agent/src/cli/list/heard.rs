//! What the members themselves say: Consul shows a lost one as it was for as long as its session lasts, and then
//! not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::rest;
use crate::journal::Away;
use crate::node::status::PeerStatus;

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_millis(800);

/// Each member's answer, or why there is none.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    answers: BTreeMap<String, Result<PeerStatus, String>>,
    leader: Option<String>,
}

impl Heard {
    /// Asks all members at the same time.
    pub async fn ask(context: &Context, cluster: &Cluster) -> Self {
        let mut asked = JoinSet::new();
        for (name, member) in &cluster.snapshot.members {
            let (rest, url) = (context.rest.clone(), rest::url(&member.value.api_url, "patroni"));
            let name = name.clone();
            asked.spawn(async move { (name, rest.get_status(&url, ANSWER).await) });
        }
        let answers = asked.join_all().await.into_iter().collect();
        Self { answers, leader: cluster.leader().map(str::to_owned) }
    }

    /// What the member said.
    pub fn status(&self, name: &str) -> Option<&PeerStatus> {
        self.answers.get(name)?.as_ref().ok()
    }

    /// Does it not answer, while others do? (Where nobody answers, it is the way to them.)
    pub fn is_silent(&self, name: &str) -> bool {
        self.answers.get(name).is_some_and(Result::is_err)
            && self.answers.values().any(Result::is_ok)
    }

    /// The members that are away, in the leader's words where it has any.
    pub fn away(&self) -> BTreeMap<String, Away> {
        let told = |status: &PeerStatus| status.hart.as_ref().map(|own| own.away.clone());
        let leaders = self.leader.as_ref().and_then(|name| told(self.status(name)?));
        let others = self.answers.values().flatten().filter_map(told).flatten();
        others.chain(leaders.into_iter().flatten()).collect()
    }

    #[cfg(test)]
    pub fn made(answers: &[(&str, Result<PeerStatus, String>)], leader: &str) -> Self {
        let answers = answers.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        Self { answers, leader: Some(leader.to_owned()) }
    }
}

/// `2026-01-01T00:00:00.000Z` for people.
pub fn shown(since: &str) -> String {
    since.get(..19).unwrap_or(since).replacen('T', " ", 1) + " UTC"
}
