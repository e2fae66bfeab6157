//! How a cluster is made.

use serde_json::Value;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries of `bootstrap.dcs` that differ from [`crate::NodeConfig::new`].
    pub dcs: Vec<(String, Value)>,
    /// Server parameters of every node.
    pub parameters: Vec<(String, String)>,
    /// Lines appended to every configuration file.
    pub extra: String,
    /// How many Consul servers there are, each on a host of its own: `consul`, `consul2`, ….
    pub servers: usize,
    /// Whether each host has a Consul client agent at `127.0.0.1:8500`, as production has;
    /// otherwise all nodes ask the first server.
    pub consul_agents: bool,
    /// Whether REST takes changing calls from everybody, also from the test's own host.
    pub open: bool,
    /// Whether the servers are named in `consul.hosts` behind the first endpoint, to be asked when
    /// that one does not answer.
    pub other_endpoints: bool,
    /// The seed of a switch in user space between the hosts, instead of the kernel's bridge: see
    /// [`crate::Lab::with_switch`].
    pub switch: Option<u64>,
    /// Whether members and Consul are known by names, which a DNS server on a host of its own knows.
    pub by_name: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dcs: Vec::new(),
            parameters: Vec::new(),
            extra: String::new(),
            servers: 1,
            consul_agents: false,
            open: true,
            other_endpoints: false,
            switch: None,
            by_name: false,
        }
    }
}

impl Options {
    /// As production has it: three Consul servers, and a client agent on each host.
    #[must_use]
    pub fn three_servers() -> Self {
        Self { servers: 3, consul_agents: true, ..Self::default() }
    }

    /// Adds an entry of `bootstrap.dcs`.
    #[must_use]
    pub fn dcs(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.dcs.push((key.to_owned(), value.into()));
        self
    }

    /// Sets a server parameter in every node's file.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On a switch in user space, whose chance goes by the seed.
    #[must_use]
    pub const fn on_switch(mut self, seed: u64) -> Self {
        self.switch = Some(seed);
        self
    }

    /// Members and Consul are known by names; see [`super::Cluster::dns`].
    #[must_use]
    pub const fn by_name(mut self) -> Self {
        self.by_name = true;
        self
    }

    /// Names the servers in `consul.hosts` behind the first endpoint.
    #[must_use]
    pub const fn with_other_endpoints(mut self) -> Self {
        self.other_endpoints = true;
        self
    }
}
