//! The ways in which a client finds the primary.

/// One way, with the driver that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// All hosts in the string of `hart dsn`, psycopg 2.
    Psycopg2,
    /// The same, psycopg 3.
    Psycopg3,
    /// The same, tokio-postgres.
    TokioPostgres,
    /// HAProxy with the file of `hart template haproxy`.
    HaProxy,
    /// HAProxy with the file of `hart template haproxy-dns`, which asks the agents' DNS.
    HaProxyDns,
    /// The virtual address.
    Vip,
    /// `hart dns` behind a dnsmasq on the client's host.
    Dns,
    /// The responders in the agents, asked by the C library.
    AgentDns,
    /// Consul's DNS behind the same dnsmasq.
    ConsulDns,
    /// A PgBouncer on a node's host, paused by the agent there.
    PgBouncer,
}

impl Way {
    /// All of them but [`Way::PgBouncer`], which leads to the primary only, and says most with many clients.
    pub const ALL: [Self; 9] = [
        Self::Psycopg2,
        Self::Psycopg3,
        Self::TokioPostgres,
        Self::HaProxy,
        Self::HaProxyDns,
        Self::Vip,
        Self::Dns,
        Self::AgentDns,
        Self::ConsulDns,
    ];

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Psycopg2 => "several hosts, psycopg 2",
            Self::Psycopg3 => "several hosts, psycopg 3",
            Self::TokioPostgres => "several hosts, tokio-postgres",
            Self::HaProxy => "HAProxy",
            Self::HaProxyDns => "HAProxy, members by DNS",
            Self::Vip => "virtual address",
            Self::Dns => "DNS of hart dns",
            Self::AgentDns => "DNS of the agents",
            Self::ConsulDns => "DNS of Consul",
            Self::PgBouncer => "PgBouncer",
        }
    }

    /// Does a new connection need an answer from Consul?
    #[must_use]
    pub const fn needs_consul(self) -> bool {
        matches!(self, Self::ConsulDns)
    }
}
