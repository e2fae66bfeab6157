//! The configuration files of the server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use crate::datadir::{self, DataDir};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::link::options_for;
use crate::parameters;
use crate::pgpass;
use crate::postgres::Postgres;
use crate::quote::{conf_value, conninfo, hba_name, literal};
use crate::reach;
use crate::sender_limit;
use crate::settings::{Credentials, Role, Settings, Upstream};
use crate::slot_faults;
use crate::slots;

/// First line of the files that are generated; by it they are known as ours.
pub(crate) const HEADER: &str = "# Written by hart; changes made here are lost.";
/// The server's configuration.
pub(crate) const SERVER_FILE: &str = "postgresql.conf";
/// `synchronous_standby_names`, which changes far more often than the rest.
pub(crate) const SYNC_FILE: &str = "hart.sync.conf";
/// How long replay waits for sessions, while a promotion is held up by some.
pub(crate) const REPLAY_FILE: &str = "hart.replay.conf";
/// What makes a server a standby.
pub(crate) const STANDBY_SIGNAL: &str = "standby.signal";

/// What [`Postgres::write_config`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// Files written or removed.
    pub files: Vec<PathBuf>,
    /// Whether the server was configured for the other role before; that takes a restart.
    pub role_changed: bool,
}

impl ConfigChange {
    /// Whether anything changed, so that a running server needs a reload.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.files.is_empty()
    }
}

/// What [`Postgres::follow`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It follows this upstream already.
    Unchanged,
    /// The server was told to; streaming starts anew without a restart.
    Reloaded,
    /// The files are written, but only a restart makes it follow.
    RestartNeeded {
        /// Why.
        why: String,
    },
}

impl Postgres {
    /// Writes `postgresql.conf`, `pg_hba.conf`, `pg_ident.conf`, the password file and
    /// `standby.signal` for this role, each atomically, and only those that differ. The original
    /// `postgresql.conf` stays as `postgresql.base.conf` and is included.
    ///
    /// # Errors
    /// The data directory holds no whole cluster, or a file cannot be written.
    pub async fn write_config(&self, role: &Role, within: Duration) -> Result<ConfigChange> {
        self.write_at(role, self.places(role), within).await
    }

    async fn write_at(
        &self,
        role: &Role,
        at: Vec<SocketAddr>,
        within: Duration,
    ) -> Result<ConfigChange> {
        let (settings, role, lock) = (self.settings(), role.clone(), self.files_lock());
        let postgres = self.clone();
        blocking("writing the configuration", within, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            postgres.awake().note(&role);
            let change = match datadir::look(&settings)? {
                DataDir::Cluster { .. } => write_all(&settings, &role, &at),
                other => Err(other.refuse("writing the configuration", &settings)),
            }?;
            postgres.note_written(&role, at);
            Ok(change)
        })
        .await
    }

    /// Makes a standby follow this upstream: writes the files and, from PostgreSQL 13 on, only
    /// reloads. A server that runs as primary needs a restart.
    ///
    /// # Errors
    /// As [`Postgres::write_config`] and [`Postgres::reload`].
    pub async fn follow(
        &self,
        upstream: Option<Upstream>,
        slot: Option<String>,
        within: Duration,
    ) -> Result<Follow> {
        let role = Role::Standby { upstream, slot };
        let at = self.places(&role);
        let change = self.write_at(&role, at.clone(), within).await?;
        let settings = self.settings();
        let (wanted, slot) = streaming(&settings, &role, &at);
        // The files alone do not tell what the running server has read.
        let sql = format!(
            "SELECT pg_is_in_recovery(), current_setting('primary_conninfo') = {} \
             AND current_setting('primary_slot_name') = {}",
            literal(&wanted),
            literal(&slot)
        );
        let row = self.query(&sql, within).await.ok().and_then(|rows| rows.into_iter().next());
        let field = |n: usize| row.as_ref().and_then(|row| row.get(n).cloned().flatten());
        if field(0).as_deref() == Some("f") || (row.is_none() && change.role_changed) {
            return Ok(Follow::RestartNeeded { why: "it runs as primary".to_owned() });
        }
        if !change.any() && field(1).as_deref() == Some("t") {
            return Ok(Follow::Unchanged);
        }
        self.reset_auto_conf(&["primary_conninfo", "primary_slot_name"], within).await?;
        self.reload(within).await?;
        Ok(Follow::Reloaded)
    }
}

/// Makes a fresh copy of another server a standby, so that it can never come up as a second
/// primary, and removes the other member's `synchronous_standby_names`.
pub(crate) fn into_standby(settings: &Settings) -> Result<()> {
    files::remove_if_there(&settings.config_dir().join(SYNC_FILE))?;
    files::remove_if_there(&settings.config_dir().join(REPLAY_FILE))?;
    remove_foreign_state(settings)?;
    let signal = settings.data_dir.join(STANDBY_SIGNAL);
    files::write_atomic(&signal, b"", 0o600, settings.run_as).map(drop)
}

/// A node of an earlier build may keep hart's state inside its data directory: it came with the copy, and
/// is not this node's.
pub(crate) fn remove_foreign_state(settings: &Settings) -> Result<()> {
    let dir = settings.data_dir.join(".hart");
    if dir == settings.state_dir() || !dir.join("agent.lock").is_file() {
        return Ok(());
    }
    fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))
}

pub(crate) fn write_all(
    settings: &Settings,
    role: &Role,
    at: &[SocketAddr],
) -> Result<ConfigChange> {
    let mut change = ConfigChange::default();
    let dir = settings.config_dir();
    let is_standby = matches!(role, Role::Standby { .. });
    let had_signal = settings.data_dir.join(STANDBY_SIGNAL).exists();
    change.role_changed = had_signal != is_standby;
    keep_original(settings)?;
    if is_standby {
        // First of all: from here on no crash can leave it startable as primary.
        put(&mut change, &settings.data_dir.join(STANDBY_SIGNAL), "", settings)?;
    }
    put(&mut change, &dir.join("postgresql.conf"), &server_conf(settings, role, at), settings)?;
    // A former promotion's.
    if files::remove_if_there(&dir.join(REPLAY_FILE))? {
        change.files.push(dir.join(REPLAY_FILE));
    }
    if !dir.join(SYNC_FILE).exists() {
        // Included by name; its content is not this function's business.
        put(&mut change, &dir.join(SYNC_FILE), &format!("{HEADER}\n"), settings)?;
    }
    if !settings.pg_hba.is_empty() && !settings.parameters.contains_key("hba_file") {
        put(&mut change, &dir.join("pg_hba.conf"), &lines(&settings.pg_hba), settings)?;
    }
    if !settings.pg_ident.is_empty() && !settings.parameters.contains_key("ident_file") {
        put(&mut change, &dir.join("pg_ident.conf"), &lines(&settings.pg_ident), settings)?;
    }
    let upstream = match role {
        Role::Standby { upstream, .. } => upstream.as_ref(),
        Role::Primary => None,
    };
    if pgpass::write(settings, upstream)? {
        change.files.push(settings.pgpass.clone());
    }
    let unwanted =
        if is_standby { &["recovery.signal"][..] } else { &["recovery.signal", STANDBY_SIGNAL] };
    for name in unwanted {
        let path = settings.data_dir.join(name);
        if files::remove_if_there(&path)? {
            // A `standby.signal` that a power failure brings back makes nothing start as primary.
            if *name != STANDBY_SIGNAL {
                files::sync_path(&settings.data_dir)?;
            }
            change.files.push(path);
        }
    }
    Ok(change)
}

fn put(change: &mut ConfigChange, path: &Path, content: &str, settings: &Settings) -> Result<()> {
    if files::write_atomic(path, content.as_bytes(), 0o600, settings.run_as)? {
        change.files.push(path.to_owned());
    }
    Ok(())
}

/// Keeps the original `postgresql.conf` as `postgresql.base.conf`, once.
pub(crate) fn keep_original(settings: &Settings) -> Result<()> {
    let dir = settings.config_dir();
    let (conf, base) = (dir.join("postgresql.conf"), dir.join("postgresql.base.conf"));
    if settings.custom_conf.is_some() || base.exists() {
        return Ok(());
    }
    let original = files::read_optional(&conf)?;
    if original.is_some_and(|text| !text.starts_with(HEADER.as_bytes())) {
        fs::rename(&conf, &base).map_err(Error::io("rename", &conf))?;
        return files::sync_path(dir);
    }
    let empty = "# Your own PostgreSQL settings; hart's postgresql.conf includes this file.\n";
    files::write_atomic(&base, empty.as_bytes(), 0o600, settings.run_as).map(|_| ())
}

fn lines(list: &[String]) -> String {
    format!("{HEADER}\n{}\n", list.join("\n"))
}

/// The content of `pg_hba.conf` for a new cluster whose settings give none: passwords for everybody,
/// and the operating system's user for a superuser without a password.
pub(crate) fn default_hba(settings: &Settings) -> String {
    let superuser = hba_name(&settings.superuser.username);
    let replication = hba_name(&settings.replication.username);
    let method = match settings.parameters.get("password_encryption").map(String::as_str) {
        Some("md5") => "md5",
        _ => "scram-sha-256",
    };
    let own = if settings.superuser.password.is_some() { method } else { "peer" };
    format!(
        "# Made by hart when the cluster was initialised; set postgresql.pg_hba to manage it.\n\
         local all {superuser} {own}\n\
         local all all {method}\n\
         host all all all {method}\n\
         local replication {replication} {method}\n\
         host replication {replication} all {method}\n"
    )
}

fn server_conf(settings: &Settings, role: &Role, at: &[SocketAddr]) -> String {
    let base = settings.custom_conf.clone().unwrap_or_else(|| "postgresql.base.conf".into());
    let mut out = format!(
        "{HEADER}\n# Put your own settings into postgresql.base.conf or hart's configuration.\n\
         include {}\n",
        conf_value(&base.to_string_lossy())
    );
    let mut set = |name: &str, value: &str| {
        out.push_str(&format!("{name} = {}\n", conf_value(value)));
    };
    // The command line has these too, and wins. With other values here a reload would complain and
    // call for a restart that changes nothing.
    let major = datadir::major(&settings.data_dir).ok().flatten().unwrap_or_default();
    for (name, value) in parameters::on_command_line(settings, role, None, major) {
        set(&name, &value);
    }
    for (name, value) in defaults(settings) {
        if !settings.parameters.contains_key(name) {
            set(name, &value);
        }
    }
    for (name, value) in settings.parameters.iter().chain(&settings.recovery) {
        if parameters::belongs_in_conf(name) {
            set(name, &slot_faults::without_own(settings, name, value));
        }
    }
    set("recovery_target_timeline", "latest");
    let (conninfo, slot) = streaming(settings, role, at);
    set("primary_conninfo", &conninfo);
    set("primary_slot_name", &slot);
    out.push_str(&format!("include_if_exists '{SYNC_FILE}'\ninclude_if_exists '{REPLAY_FILE}'\n"));
    out
}

fn defaults(settings: &Settings) -> Vec<(&'static str, String)> {
    let path = |name: &str| settings.config_dir().join(name).to_string_lossy().into_owned();
    let mut list = vec![
        (
            "unix_socket_directories",
            settings
                .socket_dir
                .as_ref()
                .map_or_else(String::new, |dir| dir.to_string_lossy().into()),
        ),
        ("hba_file", path("pg_hba.conf")),
        ("ident_file", path("pg_ident.conf")),
        ("wal_keep_size", "128MB".to_owned()),
        // PostgreSQL's 5 s would be most of the time that replicas need to follow a new primary.
        ("wal_retrieve_retry_interval", "500ms".to_owned()),
        // A host that is gone without a word holds commits up, or reads back, for that long;
        // PostgreSQL's default is a minute.
        ("wal_sender_timeout", sender_limit::DEFAULT.to_owned()),
        ("wal_receiver_timeout", "5s".to_owned()),
    ];
    let major = datadir::major(&settings.data_dir).ok().flatten().unwrap_or_default();
    if major >= sender_limit::SHUTDOWN_SINCE {
        list.push((sender_limit::SHUTDOWN, sender_limit::SHUTDOWN_DEFAULT.to_owned()));
    }
    // After a crash each file would be opened and synced; one syncfs is a fraction of that time.
    if major >= 14 {
        list.push(("recovery_init_sync_method", "syncfs".to_owned()));
    }
    if settings.logical_slots && brings_slots(settings) {
        // What a slot on a standby needs of the catalogues has to be kept by the primary.
        list.push(("hot_standby_feedback", "on".to_owned()));
        list.push((SYNC_SLOTS, "on".to_owned()));
    }
    list
}

/// `primary_conninfo` and `primary_slot_name`; both empty where nothing is streamed.
fn streaming(settings: &Settings, role: &Role, at: &[SocketAddr]) -> (String, String) {
    let Role::Standby { upstream: Some(upstream), slot } = role else {
        return (String::new(), String::new());
    };
    let slot = slot.clone().filter(|_| settings.use_slots).unwrap_or_default();
    let (who, name) = (&settings.replication, &settings.name);
    let major = datadir::major(&settings.data_dir).ok().flatten().unwrap_or_default();
    (connect_string(settings, who, (upstream, at), name, Session::Standby, major), slot)
}

/// What a connection to another server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// A standby's, which streams from now on.
    Standby,
    /// One for replication that ends with its work: a copy, a look.
    Copy,
    /// One to this database.
    Database(&'static str),
}

/// The parameter by which a standby copies the primary's failover slots (PostgreSQL 17).
const SYNC_SLOTS: &str = "sync_replication_slots";

fn brings_slots(settings: &Settings) -> bool {
    let major = datadir::major(&settings.data_dir).ok().flatten();
    major.is_some_and(|major| major >= slots::FAILOVER_SLOTS)
}

fn syncs_slots(settings: &Settings, major: u32) -> bool {
    let mut given = settings.parameters.iter();
    let given = given.find(|(name, _)| name.eq_ignore_ascii_case(SYNC_SLOTS));
    let on = |value: &String| {
        let value = value.trim().to_ascii_lowercase();
        matches!(value.as_str(), "on" | "true" | "yes" | "1")
    };
    major >= slots::FAILOVER_SLOTS && given.map_or(settings.logical_slots, |(_, value)| on(value))
}

/// A libpq connection string to another server; the password comes from the password file. A dead
/// peer is noticed by TCP within about ten seconds, also one that does not answer the first packet: the
/// WAL receiver does not heed `connect_timeout`.
///
/// Where the addresses of the host's name are known, libpq gets them beside the name. It would look the name up by
/// itself otherwise, and hang for as long as the resolver is silent, deaf to a promotion. Certificates, the password
/// file and `sender_host` go by the name still.
pub(crate) fn connect_string(
    settings: &Settings,
    who: &Credentials,
    (to, at): (&Upstream, &[SocketAddr]),
    application: &str,
    session: Session,
    major: u32,
) -> String {
    let (port, passfile) = (to.port.to_string(), settings.pgpass.to_string_lossy());
    let at = if reach::sets_place(who) { &[] } else { at };
    let (host, addresses) = reach::for_libpq(&to.host, at);
    let mut options: Vec<(&str, &str)> =
        vec![("user", &who.username), ("passfile", &passfile), ("host", &host), ("port", &port)];
    options.extend(addresses.as_deref().map(|addresses| ("hostaddr", addresses)));
    options.extend([
        ("application_name", application),
        ("connect_timeout", "5"),
        ("keepalives", "1"),
        ("keepalives_idle", "4"),
        ("keepalives_interval", "2"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "10000"),
    ]);
    options.extend(database(settings, session, major).map(|name| ("dbname", name)));
    // The site may have defaults that such a session must not have.
    let mut parameters = options_for(major, !matches!(session, Session::Database(_)));
    if session == Session::Standby {
        parameters.push_str(&sender_limit::for_sender(settings, major));
    }
    options.push(("options", &parameters));
    if !is_encrypted(who) && who.password.is_some() && is_known(major, "require_auth") {
        options.push(("require_auth", "!password"));
    }
    // libpq takes the last value of an option that is given twice.
    let extra =
        who.conninfo.iter().filter(|(name, _)| is_safe_option(name) && is_known(major, name));
    options.extend(extra.map(|(name, value)| (name.as_str(), value.as_str())));
    conninfo(options)
}

/// The database of a connection. A standby's is that of the process that synchronises failover slots, which does
/// nothing without one; for streaming it means nothing.
fn database(settings: &Settings, session: Session, major: u32) -> Option<&'static str> {
    match session {
        Session::Database(name) => Some(name),
        Session::Standby if syncs_slots(settings, major) => Some("postgres"),
        Session::Standby | Session::Copy => None,
    }
}

/// Whether libpq of this version has the option; an unknown one makes it refuse the whole string.
fn is_known(major: u32, option: &str) -> bool {
    const SINCE: [(&str, u32); 3] =
        [("sslcrldir", 14), ("require_auth", 16), ("sslnegotiation", 17)];
    SINCE.iter().all(|(name, since)| *name != option || major >= *since)
}

/// Whether the password is never sent without encryption, so that it may be asked for in clear text.
fn is_encrypted(who: &Credentials) -> bool {
    let mode = who.conninfo.get("sslmode").map_or("prefer", String::as_str);
    matches!(mode, "require" | "verify-ca" | "verify-full")
}

/// Secrets must not become program arguments.
pub(crate) fn is_safe_option(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    plain && !matches!(name, "password" | "sslpassword" | "passfile")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::new("demo", "n'1", "/srv/data");
        settings.replication = Credentials::new("repl").with_password("geheim");
        settings.pgpass = "/srv/p gpass".into();
        settings
    }

    fn standby() -> Role {
        let upstream = Upstream { host: "10.0.0.1".into(), port: 5433 };
        Role::Standby { upstream: Some(upstream), slot: Some("n1".into()) }
    }

    #[test]
    fn a_standby_streams_without_the_password_in_the_file() {
        let text = server_conf(&settings(), &standby(), &[]);
        assert!(text.contains("host=10.0.0.1 port=5433"), "{text}");
        assert!(text.contains("passfile=''/srv/p gpass''"), "{text}");
        assert!(text.contains("application_name=''n\\\\''1''"), "{text}");
        assert!(text.contains("primary_slot_name = 'n1'"), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }

    #[test]
    fn a_primary_streams_from_nobody() {
        let text = server_conf(&settings(), &Role::Primary, &[]);
        assert!(text.contains("primary_conninfo = ''\nprimary_slot_name = ''\n"), "{text}");
    }

    #[test]
    fn parameters_override_defaults_and_controlled_ones_are_as_on_the_command_line() {
        let mut settings = settings();
        for (name, value) in [("wal_keep_size", "1GB"), ("max_connections", "7"), ("x\ny", "1")] {
            settings.parameters.insert(name.into(), value.into());
        }
        let text = server_conf(&settings, &Role::Primary, &[]);
        assert!(text.contains("wal_keep_size = '1GB'") && !text.contains("128MB"), "{text}");
        assert!(!text.contains("x\ny"), "{text}");
        for (name, value) in parameters::on_command_line(&settings, &Role::Primary, None, 15) {
            let line = format!("\n{name} = {}\n", conf_value(&value));
            assert_eq!(text.matches(&line).count(), 1, "{line}{text}");
        }
    }

    #[test]
    fn who_synchronises_failover_slots_names_a_database() {
        let text = |parameters: &[(&str, &str)], session, major| {
            let mut settings = settings();
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            settings.parameters.extend(parameters.iter().map(owned));
            let upstream = Upstream { host: "db1".into(), port: 5432 };
            let to = (&upstream, &[][..]);
            connect_string(&settings, &settings.replication, to, "n1", session, major)
        };
        let on = [("sync_replication_slots", "on")];
        assert!(text(&on, Session::Standby, 17).contains(" dbname=postgres "));
        for text in [
            text(&on, Session::Standby, 16),
            text(&on, Session::Copy, 17),
            text(&[("sync_replication_slots", "off")], Session::Standby, 17),
            text(&[], Session::Standby, 17),
        ] {
            assert!(!text.contains("dbname"), "{text}");
        }
    }

    #[test]
    fn no_libpq_gets_an_option_that_it_does_not_know() {
        let mut settings = settings();
        let (upstream, who) = (Upstream { host: "db1".into(), port: 5432 }, "n1");
        let text = |settings: &Settings, major| {
            connect_string(
                settings,
                &settings.replication,
                (&upstream, &[]),
                who,
                Session::Copy,
                major,
            )
        };
        assert!(!text(&settings, 15).contains("require_auth"));
        assert!(text(&settings, 16).contains(" require_auth='!password'"));
        let extra = &mut settings.replication.conninfo;
        extra.insert("sslmode".into(), "require".into());
        assert!(!text(&settings, 16).contains("require_auth"), "LDAP over TLS is fine");
        let extra = &mut settings.replication.conninfo;
        extra.insert("sslnegotiation".into(), "direct".into());
        extra.insert("require_auth".into(), "scram-sha-256".into());
        assert!(!text(&settings, 15).contains("direct"));
        let newest = text(&settings, 17);
        assert!(newest.contains("sslnegotiation=direct"), "{newest}");
        assert!(newest.contains(" require_auth=scram-sha-256"), "{newest}");
    }

    #[test]
    fn a_name_keeps_its_place_beside_its_addresses() {
        let mut settings = settings();
        let upstream = Upstream { host: "db1.example".into(), port: 5432 };
        let role = Role::Standby { upstream: Some(upstream), slot: None };
        let text = |settings: &Settings, at: &[&str]| {
            let at: Vec<SocketAddr> = at.iter().map(|at| at.parse().unwrap()).collect();
            server_conf(settings, &role, &at)
        };
        let none = text(&settings, &[]);
        assert!(
            none.contains(" host=db1.example port=5432 ") && !none.contains("hostaddr"),
            "{none}"
        );
        let one = text(&settings, &["198.51.100.1:0"]);
        assert!(one.contains(" host=db1.example port=5432 hostaddr=198.51.100.1 "), "{one}");
        let two = text(&settings, &["[2001:db8::1]:0", "198.51.100.1:0"]);
        let both = " host=db1.example,db1.example port=5432 hostaddr=2001:db8::1,198.51.100.1 ";
        assert!(two.contains(both), "{two}");
        settings.replication.conninfo.insert("hostaddr".into(), "203.0.113.9".into());
        let own = text(&settings, &["198.51.100.1:0"]);
        assert!(own.contains(" hostaddr=203.0.113.9") && !own.contains("198.51"), "{own}");
    }

    #[test]
    fn tls_options_pass_and_secrets_do_not() {
        let mut settings = settings();
        let extra = &mut settings.replication.conninfo;
        extra.insert("sslmode".into(), "verify-full".into());
        extra.insert("sslpassword".into(), "geheim".into());
        let text = server_conf(&settings, &standby(), &[]);
        assert!(text.contains("sslmode=verify-full") && !text.contains("geheim"), "{text}");
    }
}
