//! What is done to the cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use hart_testkit::{Cluster, Trouble, freeze_all};
use rustix::process::Signal;

/// For Consul's servers to have a leader that can be killed.
const ELECTION: Duration = Duration::from_secs(20);

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Harm {
    /// SIGKILL to the postmaster.
    PostmasterKilled,
    /// SIGSTOP to the postmaster alone: no new connections, no restart of children.
    PostmasterFrozen,
    /// SIGSTOP to every process of PostgreSQL.
    PostgresFrozen,
    /// SIGKILL to the agent, which stays away.
    AgentKilled,
    /// SIGKILL to the agent, which is started again at once.
    AgentRestarted,
    /// SIGTERM to the agent.
    AgentStopped,
    /// SIGSTOP to the agent.
    AgentFrozen,
    /// SIGKILL to the guard, which takes PostgreSQL with it.
    GuardKilled,
    /// SIGSTOP to agent and guard; PostgreSQL goes on and nobody can fence it.
    KeepersFrozen,
    /// SIGSTOP to everything on the host.
    NodeFrozen,
    /// The host loses its power.
    NodeLost,
    /// All hosts with PostgreSQL lose their power.
    PowerFailure,
    /// The host's cable is pulled.
    CableCut,
    /// The host does not reach Consul's servers.
    CutFromConsul,
    /// The host does not reach the other nodes.
    CutFromPeers,
    /// The host and one other node do not reach each other.
    PairApart,
    /// What the host sends to Consul's servers is lost.
    DeafConsul,
    /// The Consul agent on the host is killed.
    LocalConsulKilled,
    /// The Consul agent on the host is killed and started again.
    LocalConsulRestarted,
    /// The leader of Consul's servers is killed.
    ConsulLeaderKilled,
    /// All of Consul's servers are killed.
    ConsulDown,
    /// The leader's session is destroyed.
    SessionDestroyed,
    /// The key `leader` is deleted.
    LeaderKeyDeleted,
    /// The node's service is deregistered.
    Deregistered,
    /// A switchover to whoever is best.
    Switchover,
    /// PostgreSQL is restarted through the API.
    Restart,
    /// The replica is copied anew.
    Reinit,
    /// Consul's servers answer the host slowly.
    ConsulSlow,
    /// Frames from and to the host are lost, doubled and overtaken.
    BadNetwork,
    /// Frames from and to the host take long.
    SlowNetwork,
    /// What the host sends to the other nodes is lost.
    MuteToPeers,
    /// Nobody reaches PostgreSQL on the host over the network; all else works.
    PostgresPortCut,
}

impl Harm {
    pub(crate) const ALL: [Self; 32] = [
        Self::PostmasterKilled,
        Self::PostmasterFrozen,
        Self::PostgresFrozen,
        Self::AgentKilled,
        Self::AgentRestarted,
        Self::AgentStopped,
        Self::AgentFrozen,
        Self::GuardKilled,
        Self::KeepersFrozen,
        Self::NodeFrozen,
        Self::NodeLost,
        Self::PowerFailure,
        Self::CableCut,
        Self::CutFromConsul,
        Self::CutFromPeers,
        Self::PairApart,
        Self::DeafConsul,
        Self::LocalConsulKilled,
        Self::LocalConsulRestarted,
        Self::ConsulLeaderKilled,
        Self::ConsulDown,
        Self::SessionDestroyed,
        Self::LeaderKeyDeleted,
        Self::Deregistered,
        Self::Switchover,
        Self::Restart,
        Self::Reinit,
        Self::ConsulSlow,
        Self::BadNetwork,
        Self::SlowNetwork,
        Self::MuteToPeers,
        Self::PostgresPortCut,
    ];

    /// Whether an asynchronous primary may go on beside its successor for a moment: nobody is awake
    /// who could fence it.
    pub(crate) const fn leaves_nobody_to_fence(self) -> bool {
        matches!(self, Self::KeepersFrozen | Self::NodeFrozen)
    }

    /// Whether the primary's role may only move in good order, without the loss of a row.
    pub(crate) const fn is_orderly(self) -> bool {
        matches!(
            self,
            Self::AgentStopped
                | Self::AgentRestarted
                | Self::Deregistered
                | Self::Switchover
                | Self::Restart
                | Self::Reinit
        )
    }

    /// Does it to the node of this name. An error: it could not be done, for instance because there
    /// is nothing to kill.
    pub(crate) async fn strike(self, cluster: &mut Cluster, node: &str) -> Result<()> {
        match self {
            Self::PostmasterKilled => cluster.node(node)?.kill_postmaster(),
            Self::PostmasterFrozen => {
                let pid = cluster.node(node)?.postmaster().context("no postmaster")?;
                freeze_all(|| vec![pid])
            }
            Self::PostgresFrozen => freeze_all(|| postgres(cluster, node)),
            Self::AgentKilled | Self::AgentRestarted | Self::AgentStopped | Self::AgentFrozen => {
                self.strike_agent(cluster, node)
            }
            Self::GuardKilled => {
                let pid = cluster.node(node)?.guard().context("no guard")?;
                signal(pid, Signal::KILL)
            }
            Self::KeepersFrozen => freeze_all(|| keepers(cluster, node)),
            Self::NodeFrozen => cluster.freeze_node(node),
            Self::NodeLost => cluster.kill_node(node),
            Self::PowerFailure => {
                ["n1", "n2", "n3"].iter().try_for_each(|name| cluster.kill_node(name))
            }
            Self::CableCut => cluster.lab().cut(&cluster.host(node)?),
            Self::CutFromConsul => cluster.part_from_consul(node),
            Self::CutFromPeers => cluster.part_from_peers(node),
            Self::PairApart | Self::DeafConsul => self.strike_network(cluster, node),
            Self::ConsulSlow
            | Self::BadNetwork
            | Self::SlowNetwork
            | Self::MuteToPeers
            | Self::PostgresPortCut => self.disturb(cluster, node),
            Self::Switchover | Self::Restart | Self::Reinit => self.ask(cluster, node).await,
            _ => self.strike_consul(cluster, node).await,
        }
    }

    fn strike_agent(self, cluster: &mut Cluster, name: &str) -> Result<()> {
        let node = cluster.node_mut(name)?;
        match self {
            Self::AgentStopped => node.agent()?.signal(Signal::TERM),
            Self::AgentFrozen => node.agent()?.freeze(),
            Self::AgentRestarted => {
                node.kill_agent();
                node.start()
            }
            _ => {
                node.kill_agent();
                Ok(())
            }
        }
    }

    fn strike_network(self, cluster: &Cluster, node: &str) -> Result<()> {
        let host = cluster.host(node)?;
        if self == Self::DeafConsul {
            let servers = cluster.server_hosts();
            return servers.iter().try_for_each(|server| cluster.lab().block(&host, server));
        }
        let other = cluster.nodes().iter().find(|other| other.name() != node).context("alone")?;
        cluster.lab().partition(&host, &cluster.host(other.name())?)
    }

    /// What only a switch in user space can do.
    fn disturb(self, cluster: &Cluster, node: &str) -> Result<()> {
        let (lab, host) = (cluster.lab(), cluster.host(node)?);
        match self {
            Self::ConsulSlow => {
                let slow = Trouble::slow(Duration::from_millis(400));
                for server in cluster.server_hosts() {
                    lab.disturb_both(Some(&host), Some(&server), None, slow)?;
                }
            }
            Self::BadNetwork => {
                let bad = Trouble { loss: 50, twice: 50, overtaken: 100, ..Trouble::default() };
                lab.disturb_both(Some(&host), None, None, bad)?;
            }
            Self::SlowNetwork => {
                let jitter = Duration::from_millis(100);
                let slow = Trouble { jitter, ..Trouble::slow(Duration::from_millis(100)) };
                lab.disturb_both(Some(&host), None, None, slow)?;
            }
            Self::MuteToPeers => {
                for other in cluster.nodes().iter().filter(|other| other.name() != node) {
                    lab.disturb(Some(&host), other.host(), None, Trouble::CUT)?;
                }
            }
            _ => drop(lab.disturb_both(Some(&host), None, Some(5432), Trouble::CUT)?),
        }
        Ok(())
    }

    async fn strike_consul(self, cluster: &mut Cluster, node: &str) -> Result<()> {
        match self {
            Self::LocalConsulKilled => local_consul(cluster, node)?.kill(),
            Self::LocalConsulRestarted => {
                let local = local_consul(cluster, node)?;
                local.kill();
                local.start()?;
            }
            Self::ConsulLeaderKilled => {
                let leader = cluster.consul_leader(ELECTION).await?;
                cluster.servers()[leader].kill();
            }
            Self::ConsulDown => cluster.kill_consul(),
            Self::SessionDestroyed => {
                let session = cluster.leader_session().await?;
                cluster.consul_call("PUT", &format!("/v1/session/destroy/{session}")).await?;
            }
            Self::LeaderKeyDeleted => {
                cluster.consul_call("DELETE", "/v1/kv/service/ha/leader").await?;
            }
            _ => {
                let path = format!("/v1/agent/service/deregister/ha%2F{node}");
                let url = local_consul(cluster, node)?.url(&path);
                hart_testkit::Rest::new()?.call("PUT", &url, None).await?;
            }
        }
        Ok(())
    }

    /// What people ask for. The answer comes when it is done, and faults do not wait for that.
    async fn ask(self, cluster: &Cluster, node: &str) -> Result<()> {
        let (path, body) = match self {
            Self::Switchover => {
                let leader = cluster.primary().await?;
                ("/switchover", serde_json::json!({ "leader": leader }))
            }
            Self::Restart => ("/restart", serde_json::json!({})),
            _ => ("/reinitialize", serde_json::json!({ "force": true })),
        };
        // A refusal, or silence, is an answer too.
        let _ = cluster.rest(node, "POST", path, Some(&body)).await;
        Ok(())
    }
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    Ok(rustix::process::kill_process(raw, signal)?)
}

fn postgres(cluster: &Cluster, node: &str) -> Vec<u32> {
    cluster.node(node).map(hart_testkit::Node::postgres).unwrap_or_default()
}

/// Agent and guard.
fn keepers(cluster: &Cluster, node: &str) -> Vec<u32> {
    let Ok(found) = cluster.node(node) else { return Vec::new() };
    let postgres = found.postgres();
    found.processes().into_iter().filter(|pid| !postgres.contains(pid)).collect()
}

fn local_consul<'a>(cluster: &'a mut Cluster, node: &str) -> Result<&'a mut hart_testkit::Consul> {
    let at =
        cluster.nodes().iter().position(|found| found.name() == node).context("no such node")?;
    cluster.consul_agents().get_mut(at).context("no Consul agent there")
}
