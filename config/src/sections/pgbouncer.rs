//! `pgbouncer`: poolers on this host, which are paused for a planned change of the primary.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::secret::Secret;

/// Where a PgBouncer has its admin console.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolerAddress {
    /// A host, or the directory of a Unix socket.
    pub host: String,
    /// The port; also in the name of the socket.
    pub port: u16,
}

impl PoolerAddress {
    /// The directory of a Unix socket?
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for PoolerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') && !self.is_socket() {
            return write!(f, "[{host}]:{port}");
        }
        write!(f, "{host}:{port}")
    }
}

impl FromStr for PoolerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.trim().rsplit_once(':').ok_or("the port is missing")?;
        let number = port.parse().ok().filter(|port| *port > 0);
        let port = number.ok_or_else(|| format!("{port:?} is no port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        let address = Self { host, port };
        let longest = format!("{}/.s.PGSQL.{port}", address.host).len();
        if address.is_socket() && longest > LONGEST_SOCKET {
            return Err(format!("its socket's path has more than {LONGEST_SOCKET} bytes"));
        }
        Ok(address)
    }
}

/// unix(7).
const LONGEST_SOCKET: usize = 107;

/// PgBouncers on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBouncer {
    /// Their admin consoles.
    pub poolers: Vec<PoolerAddress>,
    /// One of PgBouncer's `admin_users`.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// A file with its password.
    pub password_file: Option<PathBuf>,
    /// The databases to pause; empty: all.
    pub databases: Vec<String>,
    /// The file that hart keeps, for `%include` in PgBouncer's own.
    pub databases_file: Option<PathBuf>,
    /// What goes into it, where the built-in template is not enough.
    pub databases_template: Option<PathBuf>,
    /// How long transactions under way may take to end.
    pub pause_timeout: Duration,
    /// How long clients are kept waiting at most, whatever happens.
    pub max_pause: Duration,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key(
        "pgbouncer",
        Kind::Section,
        "PgBouncers on this host, paused for a switchover and while the primary is lost; without this section none are.",
    ),
    key(
        "pgbouncer.poolers",
        Kind::List,
        "Their admin consoles: socket directory or host, and port: /run/postgresql:6432; needed.",
    ),
    key("pgbouncer.user", Kind::Text, "One of PgBouncer's `admin_users`.").default("pgbouncer"),
    key("pgbouncer.password", Kind::Secret, "Its password.").env("PGBOUNCER_PASSWORD"),
    key(
        "pgbouncer.password_file",
        Kind::Path,
        "A file with nothing but the password; read for each connection.",
    ),
    key("pgbouncer.databases", Kind::List, "The databases to pause; without it all."),
    key(
        "pgbouncer.databases_file",
        Kind::Path,
        "A file that hart writes and PgBouncer's own includes: its `[databases]`, at the primary. \
         Without it the entries must lead to the primary by themselves.",
    ),
    key(
        "pgbouncer.databases_template",
        Kind::Path,
        "A template for that file, in place of `hart template pgbouncer-databases`.",
    ),
    key(
        "pgbouncer.pause_timeout",
        Kind::Seconds,
        "Transactions under way may take so long to end; longer ones make a switchover fail.",
    )
    .default("5"),
    key(
        "pgbouncer.max_pause",
        Kind::Seconds,
        "Clients wait so long at most for another primary, whatever happens; where one is lost, from the \
         end of its lease on. Less than PgBouncer's `query_wait_timeout`.",
    )
    .default("30"),
];

/// Longer ones are mistakes.
const PAUSE_MOST: Duration = Duration::from_secs(60);
const HOLD_MOST: Duration = Duration::from_secs(600);

impl PgBouncer {
    /// `None` where there is no such section.
    pub(crate) fn read(top: &Section<'_>) -> Option<Self> {
        let section = top.section("pgbouncer");
        let poolers = read_poolers(&section);
        let (password, password_file) = read_password(&section);
        let databases_file = absolute(&section, "databases_file");
        let databases_template = absolute(&section, "databases_template");
        if let Some(node) = section.given("databases_template")
            && section.given("databases_file").is_none()
        {
            let what = "there is no file to be made from it".to_owned();
            section.problem("databases_template", node, what, "give pgbouncer.databases_file, too");
        }
        let (pause_timeout, max_pause) = read_times(&section);
        let read = Self {
            poolers,
            user: section.text("user").unwrap_or_default(),
            password,
            password_file,
            databases: read_databases(&section),
            databases_file,
            databases_template,
            pause_timeout,
            max_pause,
        };
        if section.is_given() && section.given("poolers").is_none() {
            section.missing("poolers");
        }
        section.is_given().then_some(read)
    }
}

fn read_poolers(section: &Section<'_>) -> Vec<PoolerAddress> {
    let texts = section.list("poolers");
    let mut poolers: Vec<PoolerAddress> = Vec::new();
    let Some(node) = section.given("poolers") else { return poolers };
    let hint = "write a list such as [/run/postgresql:6432, \"127.0.0.1:6432\"]";
    for text in &texts {
        let problem = match text.parse::<PoolerAddress>() {
            Ok(address) if poolers.contains(&address) => format!("{address} is listed twice"),
            Ok(address) => {
                poolers.push(address);
                continue;
            }
            Err(why) => format!("expected addresses, found {text:?}: {why}"),
        };
        section.problem("poolers", node, problem, hint);
    }
    if texts.is_empty() {
        section.problem("poolers", node, "expected addresses, found none".to_owned(), hint);
    }
    poolers
}

fn read_password(section: &Section<'_>) -> (Option<Secret>, Option<PathBuf>) {
    let password = section.secret("password");
    let file = absolute(section, "password_file");
    if let Some(node) = section.given("password_file")
        && password.is_some()
    {
        let what = "pgbouncer.password is given, too".to_owned();
        section.problem("password_file", node, what, "keep one of the two");
    }
    (password, file)
}

fn absolute(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let path = section.file(key)?;
    if let Some(node) = section.given(key)
        && !path.is_absolute()
    {
        let what = format!("expected a path from the root, found {}", node.found());
        section.problem(key, node, what, "begin it with /");
    }
    Some(path)
}

fn read_databases(section: &Section<'_>) -> Vec<String> {
    let databases = section.list("databases");
    let odd = |name: &&String| name.is_empty() || name.chars().any(char::is_control);
    let own = |name: &&String| *name == "*" || *name == "pgbouncer";
    if let (Some(node), Some(bad)) =
        (section.given("databases"), databases.iter().find(|name| odd(name) || own(name)))
    {
        let what = format!("expected names of databases, found {bad:?}");
        section.problem("databases", node, what, "leave the key out to pause all of them");
    }
    databases
}

fn read_times(section: &Section<'_>) -> (Duration, Duration) {
    let pause = section.seconds("pause_timeout").unwrap_or_default();
    let hold = section.seconds("max_pause").unwrap_or_default();
    if let Some(node) = section.given("pause_timeout")
        && (pause.is_zero() || pause > PAUSE_MOST)
    {
        let most = PAUSE_MOST.as_secs();
        let what = format!("expected more than 0 and up to {most} s, found {}", node.found());
        let hint = "all clients wait while one transaction is waited for: a few seconds";
        section.problem("pause_timeout", node, what, hint);
    }
    let given = section.given("max_pause").or_else(|| section.given("pause_timeout"));
    if let Some(node) = given
        && (hold <= pause || hold > HOLD_MOST)
    {
        let most = HOLD_MOST.as_secs();
        let (hold, pause) = (hold.as_secs_f64(), pause.as_secs_f64());
        let what = format!(
            "expected more than pause_timeout ({pause} s) and up to {most} s, found {hold} s"
        );
        section.problem("max_pause", node, what, "30 is enough for most clusters");
    }
    (pause, hold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_text;

    const LEAST: &str = "scope: ha\nname: n1\nrestapi: {listen: 'a:1'}\nconsul: {host: c}\n\
                         postgresql: {listen: 'a:2', data_dir: /d}\n";

    fn read(text: &str) -> Result<Option<PgBouncer>, String> {
        let loaded = load_text("n1.yml", &format!("{LEAST}{text}"), []);
        loaded.map(|loaded| loaded.config.pgbouncer).map_err(|error| error.to_string())
    }

    #[test]
    fn the_least_has_the_defaults() {
        assert_eq!(read(""), Ok(None));
        let read = read("pgbouncer: {poolers: ['/run/postgresql:6432']}").unwrap().unwrap();
        assert_eq!(read.poolers[0].to_string(), "/run/postgresql:6432");
        assert!(read.poolers[0].is_socket());
        assert_eq!((read.user.as_str(), read.password), ("pgbouncer", None));
        assert_eq!(read.pause_timeout, Duration::from_secs(5));
        assert_eq!(read.max_pause, Duration::from_secs(30));
        assert_eq!((read.databases, read.databases_file), (vec![], None));
    }

    #[test]
    fn everything_is_read() {
        let text = "pgbouncer: {poolers: ['[::1]:6432', 'db:6433'], user: adm, password: hush, \
                    databases: [app], databases_file: /d/x.ini, databases_template: /d/x.j2, \
                    pause_timeout: 500ms, max_pause: 1m}";
        let read = read(text).unwrap().unwrap();
        let shown: Vec<_> = read.poolers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["[::1]:6432", "db:6433"]);
        assert_eq!(read.password, Some(Secret::new("hush")));
        assert_eq!(read.databases, ["app"]);
        assert_eq!(read.max_pause, Duration::from_secs(60));
        assert!(!format!("{read:?}").contains("hush"));
    }

    #[test]
    fn wrong_ones_are_named() {
        for (text, said) in [
            ("user: x", "missing: pgbouncer.poolers"),
            ("poolers: []", "n1.yml:6:22: pgbouncer.poolers: expected addresses, found none"),
            ("poolers: [/run]", "the port is missing"),
            ("poolers: ['/run:x']", "\"x\" is no port"),
            ("poolers: [':6432']", "the host is missing"),
            ("poolers: ['a:1', 'a:1']", "listed twice"),
            ("poolers: ['a:1'], password: a, password_file: /b", "keep one"),
            ("poolers: ['a:1'], password_file: b", "a path from the root"),
            ("poolers: ['a:1'], databases: ['*']", "found \"*\""),
            ("poolers: ['a:1'], databases_template: /t", "no file to be made"),
            ("poolers: ['a:1'], pause_timeout: 0", "pgbouncer.pause_timeout: expected"),
            ("poolers: ['a:1'], pause_timeout: 61", "up to 60 s"),
            ("poolers: ['a:1'], pause_timeout: 40", "more than pause_timeout (40 s)"),
            ("poolers: ['a:1'], max_pause: 601", "up to 600 s"),
            ("poolers: ['a:1'], max_pause: soon", "a number of seconds"),
        ] {
            let error = read(&format!("pgbouncer: {{{text}}}")).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = format!("pgbouncer: {{poolers: ['/{}:6432']}}", "x".repeat(100));
        assert!(read(&long).unwrap_err().contains("107 bytes"));
    }
}
