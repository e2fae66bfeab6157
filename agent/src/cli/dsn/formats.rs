//! Connection strings with several hosts. Each driver has its own names for the same three things:
//! which hosts, which of them will do, and how soon a dead one is given up.

use std::time::Duration;

use clap::ValueEnum;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cli::members::RoleFilter;

/// A driver, or what it calls its strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DsnFormat {
    /// libpq's `key=value` form: psql, and everything built on libpq.
    Libpq,
    /// libpq's URI form.
    Uri,
    /// Java.
    Jdbc,
    /// Python, psycopg 2, and 3 from 3.1.13 on (libpq's URI).
    Psycopg,
    /// Go.
    Pgx,
    /// Rust.
    TokioPostgres,
    /// .NET, Npgsql.
    Dotnet,
    /// Node.js, Postgres.js (the package `postgres`).
    PostgresJs,
    /// Node.js, node-postgres (the package `pg`): a function, for it knows one host only.
    NodePostgres,
    /// Python, asyncpg: a function, for it never leaves a silent host.
    Asyncpg,
}

/// What a connection string is made of.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// Hosts (IPv6 without brackets) and ports.
    pub hosts: Vec<(String, u16)>,
    /// Which of them will do.
    pub role: RoleFilter,
    /// Database.
    pub dbname: String,
    /// User, where one is given.
    pub username: Option<String>,
    /// Major version of libpq.
    pub libpq: u16,
    /// How long data that is sent may stay unread, where the driver can say so.
    pub unread: Unread,
}

/// How long data that is sent may stay unread before the connection is given up (`TCP_USER_TIMEOUT`). Nothing else
/// finds a host that vanished while data is on the way; but it counts with a living server as well, which reads
/// nothing more of a `COPY` while it waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Where a lease lasts this long: before it is over there is no other primary to go to.
    Lease(Duration),
    /// Where the lease of a leader that is silent for this long is revoked (`takeover: revoke`): a moment later
    /// there is another one.
    Revoked(Duration),
    /// For bulk work: as the kernel has it (`net.ipv4.tcp_retries2`), which counts only while nobody answers.
    Kernel,
}

impl Unread {
    /// A shorter lease is no reason to give up sooner: a loaded server stalls for a second or two.
    const LEAST: Duration = Duration::from_secs(5);
    /// From the suspicion to the next primary.
    const TAKEOVER: Duration = Duration::from_millis(500);

    fn limit(self) -> Option<Duration> {
        match self {
            Self::Lease(ttl) => Some(ttl.max(Self::LEAST)),
            Self::Revoked(silent) => Some(silent + Self::TAKEOVER),
            Self::Kernel => None,
        }
    }
}

/// Seconds for one connection: a host that does not answer is passed over.
pub(super) const CONNECT: u32 = 2;
/// Seconds of silence, then seconds between probes, then how many: a dead server is noticed after
/// 5 + 2 × 1 s. While data is on the way no probes are sent, and [`Unread`] counts.
pub(super) const IDLE: u32 = 5;
const INTERVAL: u32 = 1;
const COUNT: u32 = 2;

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Dsn {
    /// The string for one driver. It never has a password in it.
    #[must_use]
    pub fn render(&self, format: DsnFormat) -> String {
        match format {
            DsnFormat::Libpq => self.key_values(&self.libpq_options()),
            DsnFormat::Uri | DsnFormat::Psycopg => self.uri("postgresql", &self.libpq_options()),
            DsnFormat::Jdbc => self.jdbc(),
            DsnFormat::Pgx => self.uri("postgres", &self.pgx_options()),
            DsnFormat::TokioPostgres => self.key_values(&self.tokio_postgres_options()),
            DsnFormat::Dotnet => self.dotnet(),
            DsnFormat::PostgresJs => self.postgres_js(),
            DsnFormat::NodePostgres => self.node_postgres(),
            DsnFormat::Asyncpg => self.asyncpg(),
        }
    }

    /// libpq from 14 on (12 for `tcp_user_timeout`, 14 for `standby`).
    fn libpq_options(&self) -> Vec<(&'static str, String)> {
        let session = match self.role {
            RoleFilter::Primary => "read-write",
            // Before 14 there was no word for a standby; a session that refuses writes comes
            // nearest, and it may be any member.
            RoleFilter::Replica | RoleFilter::StandbyLeader if self.libpq < 14 => "any",
            RoleFilter::Replica | RoleFilter::StandbyLeader => "standby",
            RoleFilter::Any => "any",
        };
        let mut options = vec![("target_session_attrs", session.to_owned())];
        options.extend(timeouts("keepalives_count"));
        if let Some(limit) = self.unread.limit().filter(|_| self.libpq >= 12) {
            options.push(("tcp_user_timeout", limit.as_millis().to_string()));
        }
        if self.spreads() && self.libpq >= 16 {
            options.push(("load_balance_hosts", "random".to_owned()));
        }
        options
    }

    /// pgx passes what it does not know on to the server, which refuses it: no keepalives here
    /// (Go turns them on by itself).
    fn pgx_options(&self) -> Vec<(&'static str, String)> {
        let session = self.word("read-write", "standby", "any");
        vec![("target_session_attrs", session.to_owned()), ("connect_timeout", CONNECT.to_string())]
    }

    /// Postgres.js passes what it does not know on to the server, which refuses it; with `read-write` it stays on
    /// a standby.
    pub(super) fn postgres_js_options(&self) -> Vec<(&'static str, String)> {
        let session = match self.role {
            RoleFilter::Primary => Some("primary"),
            RoleFilter::Replica | RoleFilter::StandbyLeader => Some("standby"),
            RoleFilter::Any => None,
        };
        let mut options: Vec<_> =
            session.map(|word| ("target_session_attrs", word.to_owned())).into_iter().collect();
        options
            .extend([("connect_timeout", CONNECT.to_string()), ("keep_alive", IDLE.to_string())]);
        options
    }

    /// tokio-postgres counts `tcp_user_timeout` in seconds and has `read-only` for a standby.
    fn tokio_postgres_options(&self) -> Vec<(&'static str, String)> {
        let session = self.word("read-write", "read-only", "any");
        let mut options = vec![("target_session_attrs", session.to_owned())];
        options.extend(timeouts("keepalives_retries"));
        let limit = self.unread.limit();
        let seconds = limit.map(|limit| limit.as_millis().div_ceil(1000));
        options.extend(seconds.map(|seconds| ("tcp_user_timeout", seconds.to_string())));
        if self.spreads() {
            options.push(("load_balance_hosts", "random".to_owned()));
        }
        options
    }

    fn key_values(&self, options: &[(&'static str, String)]) -> String {
        let list = |each: &dyn Fn(&(String, u16)) -> String| {
            self.hosts.iter().map(each).collect::<Vec<_>>().join(",")
        };
        let mut pairs = vec![
            ("host", list(&|(host, _)| host.clone())),
            ("port", list(&|(_, port)| port.to_string())),
            ("dbname", self.dbname.clone()),
        ];
        pairs.extend(self.username.iter().map(|user| ("user", user.clone())));
        pairs.extend(options.iter().cloned());
        let pairs: Vec<_> =
            pairs.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        pairs.join(" ")
    }

    pub(super) fn uri(&self, scheme: &str, options: &[(&'static str, String)]) -> String {
        let user = self.username.as_ref().map(|user| format!("{}@", encoded(user)));
        let (user, hosts) = (user.unwrap_or_default(), self.authorities());
        let query: Vec<_> =
            options.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        format!("{scheme}://{user}{hosts}/{}?{}", encoded(&self.dbname), query.join("&"))
    }

    /// pgjdbc remembers for `hostRecheckSeconds` (10 s by default) what a host was: after a
    /// failover that would be wrong for too long.
    fn jdbc(&self) -> String {
        let target = self.word("primary", "secondary", "any");
        let mut query = vec![
            format!("targetServerType={target}"),
            format!("connectTimeout={CONNECT}"),
            "tcpKeepAlive=true".to_owned(),
            "hostRecheckSeconds=1".to_owned(),
        ];
        if self.spreads() {
            query.push("loadBalanceHosts=true".to_owned());
        }
        query.extend(self.username.iter().map(|user| format!("user={}", encoded(user))));
        let (hosts, database) = (self.authorities(), encoded(&self.dbname));
        format!("jdbc:postgresql://{hosts}/{database}?{}", query.join("&"))
    }

    /// Npgsql from 6 on; keepalive times in seconds (they were milliseconds before).
    fn dotnet(&self) -> String {
        let mut pairs = vec![
            ("Host", self.authorities()),
            ("Database", self.dbname.clone()),
            ("Target Session Attributes", self.word("read-write", "standby", "any").to_owned()),
            ("Timeout", CONNECT.to_string()),
            ("Tcp Keepalive", "true".to_owned()),
            ("Tcp Keepalive Time", IDLE.to_string()),
            ("Tcp Keepalive Interval", INTERVAL.to_string()),
            ("Host Recheck Seconds", "1".to_owned()),
        ];
        if self.spreads() {
            pairs.push(("Load Balance Hosts", "true".to_owned()));
        }
        if let Some(user) = &self.username {
            pairs.insert(2, ("Username", user.clone()));
        }
        let value = |text: &str| match text.contains([';', '"', '\'', '=']) || text.contains(' ') {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let pairs: Vec<_> = pairs.iter().map(|(key, v)| format!("{key}={}", value(v))).collect();
        pairs.join(";")
    }

    /// `host:port` of all, IPv6 in brackets.
    fn authorities(&self) -> String {
        let one = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        self.hosts.iter().map(one).collect::<Vec<_>>().join(",")
    }

    fn word(
        &self,
        primary: &'static str,
        replica: &'static str,
        any: &'static str,
    ) -> &'static str {
        match self.role {
            RoleFilter::Primary => primary,
            RoleFilter::Replica | RoleFilter::StandbyLeader => replica,
            RoleFilter::Any => any,
        }
    }

    /// With one primary there is nothing to spread.
    pub(super) fn spreads(&self) -> bool {
        self.role != RoleFilter::Primary
    }
}

fn timeouts(count: &'static str) -> [(&'static str, String); 5] {
    [
        ("connect_timeout", CONNECT.to_string()),
        ("keepalives", "1".to_owned()),
        ("keepalives_idle", IDLE.to_string()),
        ("keepalives_interval", INTERVAL.to_string()),
        (count, COUNT.to_string()),
    ]
}

/// As libpq reads values: in quotes where they are empty or have a space, a quote or a backslash.
fn quoted(value: &str) -> String {
    let odd = |c: char| c.is_whitespace() || c == '\'' || c == '\\';
    if !value.is_empty() && !value.contains(odd) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
