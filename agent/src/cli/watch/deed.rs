//! What a key of `hart watch` does, after a question.

use hart_ha::kv::FailoverRequest;

use super::keys::Key;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::{failover, pause};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A switchover to the best member.
    Switchover,
    /// The beginning of a pause.
    Pause,
    /// Its end.
    Resume,
}

impl Deed {
    /// Of this key, now.
    pub fn of(key: Key, cluster: &Cluster) -> Option<Self> {
        match key {
            Key::Switchover => Some(Self::Switchover),
            Key::Pause if pause::is_paused(cluster) => Some(Self::Resume),
            Key::Pause => Some(Self::Pause),
            _ => None,
        }
    }

    /// Asked before it is done.
    pub fn question(self, cluster: &Cluster) -> String {
        let scope = &cluster.scope;
        match self {
            Self::Switchover => format!(
                "Switch {scope} over to the best member, demoting current leader {}? [y/N]",
                cluster.leader().unwrap_or("(nobody leads)")
            ),
            Self::Pause => {
                format!("Pause {scope}: nobody takes over, and nothing is mended? [y/N]")
            }
            Self::Resume => format!("Resume {scope}? [y/N]"),
        }
    }

    /// Does it; what came of it, in a line.
    pub async fn done(self, context: &Context, cluster: Cluster) -> String {
        let said = match self {
            Self::Switchover => switchover(context, &cluster).await,
            Self::Pause => pause::set(context, &cluster, true).await.map(|()| "paused".to_owned()),
            Self::Resume => {
                pause::set(context, &cluster, false).await.map(|()| "resumed".to_owned())
            }
        };
        said.unwrap_or_else(|fail| fail.to_string())
    }
}

async fn switchover(context: &Context, cluster: &Cluster) -> Result<String, crate::cli::Fail> {
    let leader = cluster.leader().map(str::to_owned);
    let wanted = FailoverRequest { leader, ..FailoverRequest::default() };
    failover::ask_for(context, cluster, "switchover", &wanted).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn each_key_asks_first_and_says_whom_it_is_about() {
        let cluster = made();
        let question = |key| Deed::of(key, &cluster).map(|deed| deed.question(&cluster));
        assert!(question(Key::Switchover).unwrap().contains("demoting current leader n1"));
        assert!(question(Key::Pause).unwrap().starts_with("Pause ha"));
        assert_eq!(question(Key::Yes), None);
    }
}
