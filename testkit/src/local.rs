//! A node on this machine's loopback.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::dir::TempDir;
use crate::node::{Node, NodeConfig};
use crate::port::free_ports;
use crate::postgres::bin_dir;

/// A [`Node`] on loopback with free ports and a directory of its own, for tests that need no
/// faults in the network.
#[derive(Debug)]
pub struct LocalNode {
    node: Node,
    dir: TempDir,
}

impl LocalNode {
    /// Prepares a node that finds Consul at `consul` (`host:port`); start it with [`Node::start`].
    ///
    /// # Errors
    /// When PostgreSQL is not installed or the directory cannot be made.
    pub fn new(name: &str, consul: &str) -> Result<Self> {
        let ports = free_ports(2)?;
        let &[rest_port, postgres_port] = ports.as_slice() else { bail!("too few ports") };
        let dir = TempDir::new()?;
        let mut config = NodeConfig::new(name, Ipv4Addr::LOCALHOST, consul, bin_dir()?);
        (config.rest_port, config.postgres_port) = (rest_port, postgres_port);
        Ok(Self { node: Node::new(&dir, None, config)?, dir })
    }

    /// Starts the agent with its configuration and waits for its end; for input that it must
    /// refuse.
    ///
    /// # Errors
    /// When it still runs at the deadline; quotes its output.
    pub fn run_to_end(&mut self, deadline: Duration) -> Result<(ExitStatus, String)> {
        let yaml = self.node.config().render();
        self.run_to_end_with(&yaml, deadline)
    }

    /// As [`LocalNode::run_to_end`], with this text as configuration file.
    ///
    /// # Errors
    /// When it still runs at the deadline; quotes its output.
    pub fn run_to_end_with(
        &mut self,
        yaml: &str,
        deadline: Duration,
    ) -> Result<(ExitStatus, String)> {
        self.node.start_with(yaml)?;
        let status = self.node.agent()?.wait(deadline)?;
        Ok((status, self.node.log()))
    }

    /// The directory around the node's home, for files beside it.
    #[must_use]
    pub const fn dir(&self) -> &TempDir {
        &self.dir
    }
}

impl Deref for LocalNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl DerefMut for LocalNode {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}
