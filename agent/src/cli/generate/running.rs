//! What a PostgreSQL that runs here is set to.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_types::Chain;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, NoTls};

use super::yaml::{value, word};
use crate::cli::fail::Fail;

/// For the connection and each question.
const ANSWER: Duration = Duration::from_secs(10);

/// What is set by a file, the command line or the environment, and what is needed in any case.
const SETTINGS: &str = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1) OR \
    (context <> 'internal' AND source IN ('configuration file', 'command line', 'environment variable') \
     AND category NOT LIKE '%Recovery Target%') ORDER BY name";

/// The same on all nodes of a cluster: a standby with less does not start.
const SHARED: [&str; 8] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "track_commit_timestamp",
    "wal_level",
];

/// From these the other keys are made.
const PLACES: [&str; 6] =
    ["data_directory", "hba_file", "ident_file", "config_file", "port", "listen_addresses"];

/// hart sets them itself.
const OURS: [&str; 8] = [
    "cluster_name",
    "hot_standby",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "synchronous_standby_names",
    "wal_log_hints",
    "transaction_read_only",
];

/// They run programs, or are this machine's alone: not for the settings that all nodes share.
const LOCAL: [&str; 9] = [
    "archive_command",
    "archive_library",
    "archive_cleanup_command",
    "restore_command",
    "recovery_end_command",
    "ssl_passphrase_command",
    "hba_file",
    "ident_file",
    "unix_socket_directories",
];

/// What it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Found {
    user: String,
    parameters: Vec<(String, String)>,
    bin_dir: Option<PathBuf>,
    hba: Vec<String>,
    ident: Vec<String>,
}

/// Asks it.
///
/// # Errors
/// It does not answer, the role is no superuser, or its files cannot be read.
pub async fn ask(dsn: &str) -> Result<Found, Fail> {
    let config = config(dsn)?;
    let user = config.get_user().unwrap_or_default().to_owned();
    let connect = timeout(ANSWER, config.connect(NoTls)).await;
    let late = || Fail::failed(format!("PostgreSQL does not answer within {} s", ANSWER.as_secs()));
    let refused = |error: tokio_postgres::Error| {
        Fail::failed(format!("cannot ask PostgreSQL as {user}: {}", Chain(&error))).hint(
            "say how to connect as a superuser: --dsn \"host=/var/run/postgresql port=5432 user=postgres\", \
             PGPASSWORD for the password",
        )
    };
    let (client, connection) = connect.map_err(|_| late())?.map_err(refused)?;
    let driving = tokio::spawn(connection);
    let wanted = [&SHARED[..], &PLACES[..], &["cluster_name"]].concat();
    let rows = timeout(ANSWER, client.query(SETTINGS, &[&wanted])).await;
    let rows = rows.map_err(|_| late())?.map_err(refused)?;
    let parameters: Vec<(String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    drop(client);
    driving.abort();
    let mut found = Found { user, parameters, ..Found::default() };
    found.read_files()?;
    Ok(found)
}

/// The DSN, and the environment for what it leaves out, as libpq has it.
fn config(dsn: &str) -> Result<Config, Fail> {
    let parsed: Result<Config, _> = dsn.parse();
    let mut config = parsed.map_err(|error| {
        Fail::usage(format!("--dsn cannot be read: {}", Chain(&error)))
            .hint("it is that of libpq: host=… port=… user=…, or postgresql://…")
    })?;
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if config.get_hosts().is_empty() {
        config.host(given("PGHOST").unwrap_or_else(|| "/var/run/postgresql".to_owned()));
    }
    if config.get_ports().is_empty()
        && let Some(port) = given("PGPORT").and_then(|port| port.parse().ok())
    {
        config.port(port);
    }
    if config.get_user().is_none() {
        let user = given("PGUSER").or_else(|| given("USER"));
        config.user(user.unwrap_or_else(|| "postgres".to_owned()));
    }
    if config.get_password().is_none()
        && let Some(password) = given("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_dbname().is_none() {
        config.dbname(given("PGDATABASE").unwrap_or_else(|| "postgres".to_owned()));
    }
    match config.get_hosts() {
        [Host::Unix(_) | Host::Tcp(_)] => Ok(config.connect_timeout(ANSWER).clone()),
        _ => {
            Err(Fail::usage("--dsn names several hosts")
                .hint("name the PostgreSQL of this machine"))
        }
    }
}

impl Found {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn data_dir(&self) -> Result<PathBuf, Fail> {
        let hidden = || {
            Fail::failed(format!("{} may not see where the data is", self.user))
                .hint("connect as a superuser")
        };
        Ok(PathBuf::from(self.get("data_directory").ok_or_else(hidden)?))
    }

    fn read_files(&mut self) -> Result<(), Fail> {
        let dir = self.data_dir()?;
        self.bin_dir = Some(bin_dir(&dir)?);
        let lines = |name: &str, usual: &str| -> Result<Vec<String>, Fail> {
            let path = dir.join(usual);
            // One that is elsewhere stays there: it is named as a parameter.
            if self.get(name).is_some_and(|given| Path::new(given) != path) {
                return Ok(Vec::new());
            }
            rules(&path)
        };
        let (hba, ident) =
            (lines("hba_file", "pg_hba.conf")?, lines("ident_file", "pg_ident.conf")?);
        (self.hba, self.ident) = (hba, ident);
        Ok(())
    }

    /// What a person has to see to.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "passwords are not written: they come from the environment (HART_RESTAPI_PASSWORD, \
             HART_SUPERUSER_PASSWORD, HART_REPLICATION_PASSWORD, HART_REWIND_PASSWORD), or put them in"
                .to_owned(),
        ];
        if self.scope().is_none() {
            notes.push("cluster_name is not set: put the cluster's name in for scope".to_owned());
        }
        if !self.hba.is_empty() && !self.hba.iter().any(|line| lets_replicate(line)) {
            notes.push(
                "no line of pg_hba lets anybody replicate: one was added, look at it".to_owned(),
            );
        }
        if self.get("wal_level") == Some("minimal") {
            notes.push("wal_level is minimal here; hart starts PostgreSQL with replica".to_owned());
        }
        notes
    }

    fn scope(&self) -> Option<&str> {
        self.get("cluster_name").filter(|name| !name.is_empty())
    }

    /// The file.
    pub fn text(&self, name: &str, address: Option<IpAddr>) -> String {
        let address = address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string());
        let port = self.get("port").unwrap_or("5432");
        let data = self.get("data_directory").unwrap_or_default();
        let bin = self.bin_dir.as_deref().unwrap_or(Path::new("")).display().to_string();
        let listen = match self.get("listen_addresses") {
            Some("" | "localhost") | None => "127.0.0.1",
            Some(given) => given,
        };
        let listen: Vec<&str> = listen.split(',').map(str::trim).collect();
        let mut text = format!(
            "# From the PostgreSQL that runs here. Look it over, then: hart check FILE\n\
             scope: {scope}\nname: {name}\n\n\
             restapi:\n  listen: \"{address}:8008\"\n  connect_address: \"{address}:8008\"\n  \
             # For calls that change something; the password: HART_RESTAPI_PASSWORD\n  \
             authentication: {{username: hart}}\n\n\
             consul:\n  host: \"127.0.0.1:8500\"\n  register_service: true\n\n\
             # What the cluster begins with, and all its nodes share; afterwards: hart edit-config\n\
             bootstrap:\n  dcs:\n    ttl: 30\n    loop_wait: 10\n    maximum_lag_on_failover: 1048576\n    \
             postgresql:\n      use_pg_rewind: true\n      use_slots: true\n      parameters:\n",
            scope = word(self.scope().unwrap_or("FIXME")),
            name = word(name),
        );
        lines(&mut text, 8, self.chosen(false));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\npostgresql:\n  listen: \"{listen}:{port}\"\n  connect_address: \"{address}:{port}\"\n  \
             data_dir: {data}\n  bin_dir: {bin}\n  \
             # Passwords: HART_SUPERUSER_PASSWORD, HART_REPLICATION_PASSWORD, HART_REWIND_PASSWORD\n  \
             authentication:\n    superuser: {{username: {user}}}\n    \
             replication: {{username: replicator}}\n    rewind: {{username: rewinder}}\n",
            listen = listen.join(","),
            data = word(data),
            bin = word(&bin),
            user = word(&self.user),
        );
        let local = self.chosen(true);
        if !local.is_empty() {
            text.push_str("  parameters:\n");
            lines(&mut text, 4, local);
        }
        list(&mut text, "pg_hba", &self.hba_lines(&address));
        list(&mut text, "pg_ident", &self.ident);
        text
    }

    /// The parameters of this machine alone, or those for all.
    fn chosen(&self, local: bool) -> Vec<(&str, &str)> {
        let data = self.get("data_directory").map(Path::new);
        let is_usual = |name: &str, value: &str| {
            name.ends_with("_file") && data.is_some_and(|dir| Path::new(value).starts_with(dir))
        };
        let parameters = self.parameters.iter();
        parameters
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, value)| match *name {
                "hba_file" | "ident_file" => !is_usual(name, value),
                name => !PLACES.contains(&name) && !OURS.contains(&name),
            })
            .filter(|(name, _)| LOCAL.contains(name) == local)
            .filter(|(_, value)| *value != "(disabled)")
            .collect()
    }

    fn hba_lines(&self, address: &str) -> Vec<String> {
        let mut lines = self.hba.clone();
        if !lines.is_empty() && !lines.iter().any(|line| lets_replicate(line)) {
            lines.push(format!("host replication replicator {address}/24 scram-sha-256"));
        }
        lines
    }
}

fn lets_replicate(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    kind != "local"
        && words.next().is_some_and(|databases| databases.split(',').any(|d| d == "replication"))
}

fn lines(text: &mut String, indent: usize, parameters: Vec<(&str, &str)>) {
    for (name, given) in parameters {
        let _ = writeln!(text, "{:indent$}{name}: {}", "", value(given));
    }
}

fn list(text: &mut String, key: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {key}:");
    for line in lines {
        let _ = writeln!(text, "    - {}", word(line));
    }
}

/// The lines that say something.
fn rules(path: &Path) -> Result<Vec<String>, Fail> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fail::failed(format!("{}: {error}", path.display()))
            .hint("run it as root, or as the user that PostgreSQL runs as")
    })?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

/// Where the program of the running postmaster is.
fn bin_dir(data: &Path) -> Result<PathBuf, Fail> {
    let file = data.join("postmaster.pid");
    let elsewhere = |why: String| {
        Fail::failed(format!("{}: {why}", file.display()))
            .hint("PostgreSQL must run on this machine, and this command as root or as its user")
    };
    let text = std::fs::read_to_string(&file).map_err(|error| elsewhere(error.to_string()))?;
    let pid: u32 = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| elsewhere("it names no process".to_owned()))?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))
        .map_err(|error| elsewhere(format!("process {pid}: {error}")))?;
    program
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| elsewhere(format!("process {pid} is {}", program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        let parameters = [
            ("archive_command", "cp %p '/a rchive/%f'"),
            ("cluster_name", "prod"),
            ("config_file", "/d/postgresql.conf"),
            ("data_directory", "/d"),
            ("hba_file", "/d/pg_hba.conf"),
            ("ident_file", "/etc/pg_ident.conf"),
            ("listen_addresses", "10.0.0.7, 127.0.0.1"),
            ("log_line_prefix", "%m [%p]: "),
            ("max_connections", "200"),
            ("port", "5433"),
            ("shared_buffers", "128MB"),
            ("wal_log_hints", "off"),
        ];
        Found {
            user: "postgres".into(),
            parameters: parameters.map(|(name, value)| (name.into(), value.into())).into(),
            bin_dir: Some("/usr/lib/postgresql/15/bin".into()),
            hba: vec!["local all all peer".into(), "host all \"a b\" 10.0.0.0/8 md5".into()],
            ident: vec![],
        }
    }

    #[test]
    fn it_is_a_configuration_with_what_the_server_has() {
        let text = found().text("n7", "10.0.0.7".parse().ok());
        let env = [("HART_RESTAPI_PASSWORD".to_owned(), "p".to_owned())];
        let loaded = hart_config::load_text("g.yml", &text, env).unwrap();
        assert_eq!(loaded.warnings.len(), 0, "{:?}\n{text}", loaded.warnings);
        let config = loaded.config;
        assert_eq!((config.scope.as_str(), config.name.as_str()), ("prod", "n7"));
        let postgresql = &config.postgresql;
        assert_eq!(postgresql.connect_address.to_string(), "10.0.0.7:5433");
        assert_eq!(postgresql.data_dir, Path::new("/d"));
        for part in [
            "        max_connections: 200\n",
            "        shared_buffers: \"128MB\"\n",
            "        log_line_prefix: \"%m [%p]: \"\n",
            "    archive_command: \"cp %p '/a rchive/%f'\"\n",
            "    ident_file: \"/etc/pg_ident.conf\"\n",
            "  listen: \"10.0.0.7,127.0.0.1:5433\"\n",
            "    - \"host all \\\"a b\\\" 10.0.0.0/8 md5\"\n",
            "    - host replication replicator 10.0.0.7/24 scram-sha-256\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("wal_log_hints") && !text.contains("config_file"), "{text}");
    }

    #[test]
    fn what_a_person_has_to_see_to_is_said() {
        let mut odd = found();
        odd.parameters.retain(|(name, _)| name != "cluster_name");
        odd.parameters.push(("wal_level".into(), "minimal".into()));
        let notes = odd.notes().join("\n");
        for word in ["scope", "replicate", "wal_level", "HART_SUPERUSER_PASSWORD"] {
            assert!(notes.contains(word), "{word}: {notes}");
        }
        assert!(odd.text("n1", None).contains("scope: FIXME\n"));
    }

    #[test]
    fn a_wrong_dsn_is_said() {
        assert_eq!(config("host=").unwrap_err().code(), 64);
        assert!(config("nonsense").unwrap_err().to_string().contains("--dsn"));
        assert!(config("host=a,b port=1,2").unwrap_err().to_string().contains("several"));
    }
}
