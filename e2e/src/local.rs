//! A small cluster on loopback.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_testkit::{Consul, LocalNode, Rest, Sql, eventually};
use serde_json::Value;

use crate::DEADLINE;

/// Nodes on loopback around one real Consul.
#[derive(Debug)]
pub struct Local {
    nodes: Vec<LocalNode>,
    rest: Rest,
    consul: Consul,
}

impl Local {
    /// A Consul and these nodes; nothing of hart is started.
    ///
    /// # Errors
    /// When something is missing.
    pub async fn prepare(names: &[&str]) -> Result<Self> {
        let consul = Consul::on_loopback().await?;
        let mut local = Self { nodes: Vec::new(), rest: Rest::new()?, consul };
        names.iter().try_for_each(|name| local.add(name))?;
        Ok(local)
    }

    /// One running primary named `n1`, and a node `n2` that has not been started.
    ///
    /// # Errors
    /// When it does not become primary.
    pub async fn primary_and_spare() -> Result<Self> {
        let mut local = Self::prepare(&["n1", "n2"]).await?;
        local.node_mut("n1")?.start()?;
        local.wait_healthy(1).await?;
        Ok(local)
    }

    /// Adds a node.
    ///
    /// # Errors
    /// When PostgreSQL is not installed.
    pub fn add(&mut self, name: &str) -> Result<()> {
        self.nodes.push(LocalNode::new(name, &self.consul.address())?);
        Ok(())
    }

    /// Consul.
    pub const fn consul(&mut self) -> &mut Consul {
        &mut self.consul
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&LocalNode> {
        self.nodes.iter().find(|node| node.name() == name).context("no such node")
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut LocalNode> {
        self.nodes.iter_mut().find(|node| node.name() == name).context("no such node")
    }

    /// A value in SQL of a node.
    ///
    /// # Errors
    /// When it cannot be reached or refuses.
    pub async fn sql(&self, name: &str, sql: &str) -> Result<Option<String>> {
        Sql::connect(&self.node(name)?.sql_config()).await?.value(sql).await
    }

    /// The value of a key of the cluster in Consul.
    ///
    /// # Errors
    /// When Consul does not answer or has no such key.
    pub async fn key(&self, name: &str) -> Result<String> {
        let answer =
            self.rest.get(&self.consul.url(&format!("/v1/kv/service/ha/{name}?raw"))).await?;
        ensure!(answer.ok(), "key {name}: {}", answer.status);
        Ok(answer.text)
    }

    /// Calls the REST API of a node, at most a minute.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, name: &str, path: &str, body: &Value) -> Result<(u16, String)> {
        let rest = Rest::with_deadline(Duration::from_secs(60))?;
        let answer = rest.call("POST", &self.node(name)?.url(path), Some(body)).await?;
        Ok((answer.status, answer.text))
    }

    /// Waits until the cluster has `count` members, one of them a writable primary and all others
    /// streaming from it; the name of the primary.
    ///
    /// # Errors
    /// At the deadline, with the agents' logs.
    pub async fn wait_healthy(&self, count: usize) -> Result<String> {
        let what = format!("{count} healthy members");
        let found = eventually(&what, DEADLINE, async || self.healthy(count).await).await;
        found.with_context(|| self.logs())
    }

    /// The ends of the agents' logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |node: &LocalNode| format!("--- {}\n{}\n", node.name(), node.log_tail());
        self.nodes.iter().map(log).collect()
    }

    async fn healthy(&self, count: usize) -> Result<String> {
        let primary = self.primary().await?;
        let answer = self.rest.get(&self.node(&primary)?.url("/cluster")).await?.json()?;
        let members = answer["members"].as_array().context("no members")?;
        let up =
            |member: &&Value| matches!(member["state"].as_str(), Some("running" | "streaming"));
        let running = members.iter().filter(up).count();
        ensure!(running == count && members.len() == count, "members: {}", answer["members"]);
        let streaming = "select count(*) from pg_stat_replication where state = 'streaming' \
                         and application_name not like '%base%backup'";
        let streaming = self.sql(&primary, streaming).await?;
        ensure!(streaming == Some((count - 1).to_string()), "streaming: {streaming:?}");
        Ok(primary)
    }

    /// The only node that says it is primary, if it accepts writes.
    ///
    /// # Errors
    /// When it is none, or more than one.
    pub async fn primary(&self) -> Result<String> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let answer = self.rest.get(&node.url("/primary")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                found.push(node.name());
            }
        }
        let &[primary] = found.as_slice() else { anyhow::bail!("primaries: {found:?}") };
        let read_only = self.sql(primary, "show transaction_read_only").await?;
        ensure!(read_only.as_deref() == Some("off"), "{primary} is read-only");
        Ok(primary.to_owned())
    }
}
