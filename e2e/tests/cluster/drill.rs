//! A cluster under load, and the account at the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Consul, Options, Writers, eventually, until};
use hart_workload::{Failure, Ledger, Plan, check};

/// Rows that show that writing goes on: half a second of them.
const SOME: u64 = 50;

/// For an answer where one must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which promises a scenario may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Every acknowledged row must be there.
    None,
    /// Replication is asynchronous and the primary was lost: what only it had may be gone.
    Some,
}

/// A cluster with a writer on every host, which writes to that host's own node.
pub(crate) struct Drill {
    pub(crate) cluster: Cluster,
    writers: Option<Writers>,
    ledgers: Vec<Arc<Ledger>>,
    next_writer: i32,
    /// The writer on the host of the primary of that moment.
    at_primary: i32,
}

impl Drill {
    /// Three nodes that replicate asynchronously.
    pub(crate) async fn asynchronous() -> Result<Self> {
        Self::with(&Options::default()).await
    }

    /// Three nodes, one of which every commit waits for.
    pub(crate) async fn synchronous() -> Result<Self> {
        let drill = Self::with(&Options::default().dcs("synchronous_mode", true)).await?;
        drill.synchronous_standby().await?;
        Ok(drill)
    }

    /// Three nodes: any one of the two standbys confirms a commit.
    pub(crate) async fn quorum() -> Result<Self> {
        let drill = Self::with(&Options::default().dcs("synchronous_mode", "quorum")).await?;
        drill.quorum_of(2).await?;
        Ok(drill)
    }

    /// Waits until so many standbys are published that together have everything.
    pub(crate) async fn quorum_of(&self, voters: usize) -> Result<()> {
        eventually("a quorum", DEADLINE, async || {
            let mut found = Vec::new();
            for node in self.cluster.nodes() {
                let answer = self.cluster.rest(node.name(), "GET", "/quorum", None).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    found.push(node.name());
                }
            }
            ensure!(found.len() == voters, "the voters are {found:?}");
            Ok(())
        })
        .await
    }

    /// In either mode.
    pub(crate) async fn in_mode(synchronous: bool) -> Result<Self> {
        if synchronous { Self::synchronous().await } else { Self::asynchronous().await }
    }

    pub(crate) async fn with(options: &Options) -> Result<Self> {
        Self::around(Cluster::start(3, options).await?).await
    }

    /// Around a cluster of three nodes that have been started.
    pub(crate) async fn around(cluster: Cluster) -> Result<Self> {
        cluster.wait_healthy(3, DEADLINE).await?;
        Ok(Self { cluster, writers: None, ledgers: Vec::new(), next_writer: 1, at_primary: 0 })
    }

    /// The name of a published synchronous standby, as soon as there is one.
    pub(crate) async fn synchronous_standby(&self) -> Result<String> {
        self.cluster.wait_synchronous_standby(DEADLINE).await
    }

    /// Starts the writers, waits until rows are acknowledged, and begins the observation. The
    /// primary's name.
    pub(crate) async fn write(&mut self) -> Result<String> {
        self.write_with(|plan| plan).await
    }

    /// As [`Drill::write`], with writers that wait for an answer for longer than a busy machine may
    /// need: where nothing goes wrong, every row is acknowledged.
    pub(crate) async fn write_patiently(&mut self) -> Result<String> {
        let patience = PATIENCE;
        self.write_with(|plan| Plan {
            reply_deadline: patience,
            connect_deadline: patience,
            ..plan
        })
        .await
    }

    async fn write_with(&mut self, change: impl Fn(Plan) -> Plan) -> Result<String> {
        let primary = self.cluster.wait_primary(DEADLINE).await?;
        self.writers = Some(self.cluster.start_writers_with(self.next_writer, change)?);
        let place = self.cluster.nodes().iter().position(|node| node.name() == primary);
        self.at_primary = self.next_writer + i32::try_from(place.context("no such node")?)?;
        self.next_writer += 3;
        self.written().await?;
        self.ledger()?.mark();
        Ok(primary)
    }

    /// What the writers have seen.
    pub(crate) fn ledger(&self) -> Result<&Ledger> {
        Ok(self.writers.as_ref().context("nobody writes")?.ledger())
    }

    /// Waits until more rows have been acknowledged.
    pub(crate) async fn written(&self) -> Result<()> {
        let ledger = self.ledger()?;
        let enough = ledger.counts().acknowledged + SOME;
        until("acknowledged rows", DEADLINE, async || {
            (ledger.counts().acknowledged >= enough).then_some(())
        })
        .await
        .with_context(|| format!("{:?}\n{}", ledger.counts().failures, self.logs()))
    }

    /// No row that was sent to the primary was refused or left without an answer, since
    /// [`Drill::write_patiently`].
    pub(crate) fn undisturbed(&self) -> Result<()> {
        let counts = self.ledger()?.counts_of(self.at_primary);
        // Before the first row the table is not there; the writer makes it.
        let no_table = Failure::Sql("42P01".into());
        let calm = counts.unknown == 0 && counts.failures.keys().all(|found| *found == no_table);
        ensure!(calm, "writing was disturbed: {counts:?}\n{}", self.logs());
        Ok(())
    }

    /// What the writers have seen who were stopped last.
    pub(crate) fn last_ledger(&self) -> Option<&Ledger> {
        self.ledgers.last().map(Arc::as_ref)
    }

    /// The process id of a node's postmaster.
    pub(crate) fn postmaster(&self, name: &str) -> Result<u32> {
        let found = self.cluster.node(name)?.postmaster();
        found.with_context(|| format!("{name} has no postmaster\n{}", self.logs()))
    }

    /// The process ids of all postmasters.
    pub(crate) fn postmasters(&self) -> Result<Vec<u32>> {
        self.cluster.nodes().iter().map(|node| self.postmaster(node.name())).collect()
    }

    /// Stops a node's agent in good order. It leaves nothing behind, in Consul neither.
    pub(crate) async fn stop(&mut self, name: &str) -> Result<()> {
        let node = self.cluster.node_mut(name)?;
        let status = node.stop()?;
        ensure!(status.success(), "{status}\n{}", node.log());
        ensure!(node.processes().is_empty(), "{:?} are left of {name}", node.processes());
        let consul = self.cluster.consul();
        eventually("the end of its registration", DEADLINE, async || {
            let members = crate::keys::members_in_service(consul).await?;
            ensure!(!members.contains_key(name), "{members:?}");
            Ok(())
        })
        .await
    }

    /// The Consul agent on a node's host.
    pub(crate) fn local_consul(&mut self, name: &str) -> Result<&mut Consul> {
        let at = self.cluster.nodes().iter().position(|node| node.name() == name);
        let agent = self.cluster.consul_agents().get_mut(at.context("no such node")?);
        agent.context("no Consul agents here")
    }

    /// Stops the writers. No two nodes have acknowledged at the same time.
    pub(crate) fn pause(&mut self) -> Result<()> {
        let ledger = self.writers.take().context("nobody writes")?.finish()?;
        let overlap = ledger.overlap();
        self.ledgers.push(ledger);
        ensure!(overlap.is_none(), "two primaries: {overlap:?}\n{}", self.logs());
        Ok(())
    }

    /// Every promise of the writers, so far, has been kept by this primary.
    pub(crate) async fn account(&self, primary: &str, loss: Loss) -> Result<()> {
        let sql = self.cluster.sql(primary).await?;
        for ledger in &self.ledgers {
            let found = check(ledger, sql.client(), DEADLINE, true).await?;
            let kept = found.unexpected == 0 && (found.lost == 0 || loss == Loss::Some);
            ensure!(kept, "{found}: {:?}\n{}", found.lost_rows, self.logs());
        }
        Ok(())
    }

    /// Stops the writers, waits until all three nodes are well, and settles the account. Logs must
    /// contain no warning but those `announced`. The primary's name.
    pub(crate) async fn finish(&mut self, loss: Loss, announced: &[&str]) -> Result<String> {
        if self.writers.is_some() {
            self.pause()?;
        }
        let primary = self.cluster.wait_healthy(3, DEADLINE).await?;
        self.account(&primary, loss).await?;
        self.calm(announced)?;
        Ok(primary)
    }

    /// No log contains a warning but those `announced`.
    pub(crate) fn calm(&self, announced: &[&str]) -> Result<()> {
        let lines = self.cluster.unexpected_lines(announced);
        ensure!(lines.is_empty(), "not announced: {lines:#?}\n{}", self.logs());
        Ok(())
    }

    /// The end of each agent's log.
    pub(crate) fn logs(&self) -> String {
        let nodes = self.cluster.nodes().iter();
        nodes.map(|node| format!("--- {}\n{}\n", node.name(), node.log_tail())).collect()
    }

    /// A node that is not `name`.
    pub(crate) fn other_than(&self, name: &str) -> Result<String> {
        let mut names = self.cluster.nodes().iter().map(|node| node.name());
        Ok(names.find(|other| *other != name).context("there are three nodes")?.to_owned())
    }

    /// The timeline that the node is on, as `GET /patroni` has it.
    pub(crate) async fn timeline(&self, name: &str) -> Result<u64> {
        let status = self.cluster.rest(name, "GET", "/patroni", None).await?.json()?;
        status["timeline"].as_u64().with_context(|| format!("no timeline: {status}"))
    }
}
