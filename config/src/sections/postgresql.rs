//! `postgresql`: the local server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::address::{Address, Listen};
use crate::effective::is_controlled;
use crate::keys::{KeyDoc, Kind, Support, ignored, key};
use crate::reader::Section;
use crate::sections::restapi::refuse_wildcard;
use crate::sections::{Authentication, Program, bootstrap, hooks};
use crate::warning::WarningKind;

/// The local server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Postgresql {
    /// Where it listens.
    pub listen: Listen,
    /// Where others reach it.
    pub connect_address: Address,
    /// Where a proxy in front of it is reached.
    pub proxy_address: Option<Address>,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Where `postgresql.conf` is, if not in the data directory.
    pub config_dir: Option<PathBuf>,
    /// Where the programs are; absent: on the search path.
    pub bin_dir: Option<PathBuf>,
    /// Other names of programs, such as `pg_basebackup`; a path with `/` is one from `bin_dir`.
    pub bin_name: BTreeMap<String, String>,
    /// The passfile that hart writes for child processes.
    pub pgpass: Option<PathBuf>,
    /// Roles.
    pub authentication: Authentication,
    /// Server parameters of this node.
    pub parameters: Map<String, Value>,
    /// Shared settings may name programs, libraries and logins; see [`crate::is_command`].
    pub allow_commands_from_dcs: bool,
    /// Lines of `pg_hba.conf`; they win over the shared ones.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of `pg_ident.conf`; they win over the shared ones.
    pub pg_ident: Option<Vec<String>>,
    /// Wins over the shared setting.
    pub use_pg_rewind: Option<bool>,
    /// Copy the data anew where `pg_rewind` fails.
    pub remove_data_directory_on_rewind_failure: bool,
    /// Copy the data anew where timelines diverged and `pg_rewind` is not in use.
    pub remove_data_directory_on_diverged_timelines: bool,
    /// Copy the data of a replica anew where no member has the WAL that it needs next.
    pub remove_data_directory_on_missing_wal: bool,
    /// Ways to make a replica, in order; empty: `pg_basebackup`.
    pub create_replica_methods: Vec<CreateReplica>,
    /// Settings of recovery for a standby.
    pub recovery_conf: BTreeMap<String, String>,
    /// Options of `pg_basebackup`, without dashes.
    pub basebackup: Vec<(String, Option<String>)>,
    /// How long a start or stop may take before it is reported.
    pub pg_ctl_timeout: Duration,
    /// Programs by event.
    pub callbacks: BTreeMap<String, Program>,
    /// May veto a promotion.
    pub pre_promote: Option<Program>,
    /// Runs before an orderly stop.
    pub before_stop: Option<Program>,
    /// A `postgresql.conf` to include instead of the original one.
    pub custom_conf: Option<PathBuf>,
}

/// One of `postgresql.create_replica_methods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateReplica {
    /// `pg_basebackup`.
    BaseBackup,
    /// Somebody's command.
    Command {
        /// The method's name.
        name: String,
        /// What is run.
        program: Program,
        /// Keys of its section, as `--key=value`.
        arguments: Vec<String>,
        /// The command is told nothing of scope, role, directory and leader.
        no_params: bool,
        /// It works also while nobody leads.
        no_leader: bool,
        /// It finds the data directory as it is.
        keep_data: bool,
    },
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("postgresql", Kind::Section, "The local server."),
    key("postgresql.listen", Kind::Listen, "Addresses and the port to listen on.")
        .required()
        .env("POSTGRESQL_LISTEN"),
    key(
        "postgresql.connect_address",
        Kind::Address,
        "Where others reach it; the first of listen, if that names a host.",
    )
    .env("POSTGRESQL_CONNECT_ADDRESS"),
    key("postgresql.proxy_address", Kind::Address, "Where a proxy in front of it is reached.")
        .env("POSTGRESQL_PROXY_ADDRESS"),
    key("postgresql.data_dir", Kind::Path, "The data directory.")
        .required()
        .env("POSTGRESQL_DATA_DIR"),
    key("postgresql.config_dir", Kind::Path, "Where postgresql.conf is, if not in data_dir.")
        .env("POSTGRESQL_CONFIG_DIR"),
    key("postgresql.bin_dir", Kind::Path, "Where the programs are; absent: on the search path.")
        .env("POSTGRESQL_BIN_DIR"),
    key("postgresql.bin_name", Kind::Section, "Other names of programs."),
    key(
        "postgresql.bin_name.pg_ctl",
        Kind::Text,
        "hart starts and stops PostgreSQL without pg_ctl.",
    )
    .default("pg_ctl")
    .env("POSTGRESQL_BIN_PG_CTL")
    .unused(),
    key("postgresql.bin_name.initdb", Kind::Text, "initdb.").env("POSTGRESQL_BIN_INITDB"),
    key("postgresql.bin_name.pg_controldata", Kind::Text, "pg_controldata.")
        .env("POSTGRESQL_BIN_PG_CONTROLDATA"),
    key("postgresql.bin_name.pg_basebackup", Kind::Text, "pg_basebackup.")
        .env("POSTGRESQL_BIN_PG_BASEBACKUP"),
    key("postgresql.bin_name.postgres", Kind::Text, "postgres.").env("POSTGRESQL_BIN_POSTGRES"),
    key(
        "postgresql.bin_name.pg_isready",
        Kind::Text,
        "hart asks PostgreSQL itself, not pg_isready.",
    )
    .default("pg_isready")
    .env("POSTGRESQL_BIN_PG_ISREADY")
    .unused(),
    key("postgresql.bin_name.pg_rewind", Kind::Text, "pg_rewind.").env("POSTGRESQL_BIN_PG_REWIND"),
    key("postgresql.pgpass", Kind::Path, "The passfile that hart writes for child processes.")
        .env("POSTGRESQL_PGPASS"),
    key("postgresql.parameters", Kind::Map, "Server parameters of this node."),
    key(
        "postgresql.allow_commands_from_dcs",
        Kind::Flag,
        "Take archive_command, restore_command, preloaded libraries, pg_hba and the like from the \
         shared settings in Consul too; false: from this file only.",
    )
    .default("true")
    .env("POSTGRESQL_ALLOW_COMMANDS_FROM_DCS"),
    key("postgresql.pg_hba", Kind::List, "Lines of pg_hba.conf; they win over the shared ones."),
    key(
        "postgresql.pg_ident",
        Kind::List,
        "Lines of pg_ident.conf; they win over the shared ones.",
    ),
    key(
        "postgresql.use_unix_socket",
        Kind::Flag,
        "hart connects to its own server over the Unix socket wherever there is one.",
    )
    .default("true")
    .unused(),
    key("postgresql.use_pg_rewind", Kind::Flag, "Wins over the shared setting."),
    key(
        "postgresql.remove_data_directory_on_rewind_failure",
        Kind::Flag,
        "Copy the data anew where pg_rewind fails.",
    )
    .default("false"),
    key(
        "postgresql.remove_data_directory_on_diverged_timelines",
        Kind::Flag,
        "Copy the data anew where timelines diverged.",
    )
    .default("false"),
    key(
        "postgresql.remove_data_directory_on_missing_wal",
        Kind::Flag,
        "Copy a replica's data anew where the leader has removed the WAL that it needs next.",
    )
    .default("true"),
    key(
        "postgresql.create_replica_methods",
        Kind::List,
        "Ways to make a replica, tried in order: basebackup, or the name of a section beside this key that \
         has a command (and no_params, no_leader, keep_data, and options for the command).",
    ),
    key("postgresql.create_replica_method", Kind::List, "Old name of create_replica_methods."),
    key(
        "postgresql.recovery_conf",
        Kind::Map,
        "Settings of a standby's recovery, such as restore_command; they win over parameters.",
    ),
    key("postgresql.basebackup", Kind::Options, "Options of pg_basebackup, without dashes."),
    key("postgresql.pg_ctl_timeout", Kind::Seconds, "How long a start or stop may take.")
        .default("60"),
    key(
        "postgresql.pre_promote",
        Kind::Text,
        "Command that runs when the lease is taken and before PostgreSQL is promoted; where it fails the \
         lease goes back, and this node takes none for a ttl.",
    ),
    key("postgresql.before_stop", Kind::Text, "Command that runs before an orderly stop."),
    key(
        "postgresql.custom_conf",
        Kind::Path,
        "A postgresql.conf to include instead of the original.",
    ),
    key(
        "postgresql.use_slots",
        Kind::Flag,
        "it must be the same on all nodes; set it in bootstrap.dcs.postgresql, or in a running \
         cluster with PATCH /config.",
    )
    .unused(),
    key(
        "postgresql.use_unix_socket_repl",
        Kind::Flag,
        "what is streamed and copied comes from other members, which no socket of this machine reaches.",
    )
    .default("false")
    .unused(),
    key(
        "postgresql.krbsrvname",
        Kind::Text,
        "hart logs in with passwords and certificates, not with Kerberos.",
    )
    .unused(),
    ignored("postgresql.rewind"),
    ignored("postgresql.replica_method"),
    ignored("postgresql.parameters_primary"),
    ignored("postgresql.parameters_replica"),
    ignored("postgresql.parameters_standby_leader"),
    ignored("postgresql.pg_hba_primary"),
    ignored("postgresql.pg_hba_replica"),
    ignored("postgresql.pg_hba_standby_leader"),
    ignored("postgresql.pg_ident_primary"),
    ignored("postgresql.pg_ident_replica"),
    ignored("postgresql.pg_ident_standby_leader"),
];

impl Postgresql {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("postgresql");
        let flag = |key: &str| section.flag(key).unwrap_or(false);
        let listen: Listen = section.address("listen").unwrap_or_default();
        let local = Self {
            connect_address: connect_address(&section, &listen),
            listen,
            proxy_address: section.address("proxy_address"),
            // Patroni's sample has a relative one. Empty only after a problem.
            data_dir: section.place("data_dir").unwrap_or_default(),
            config_dir: section.place("config_dir"),
            bin_dir: section.place("bin_dir"),
            bin_name: bin_names(&section),
            pgpass: section.place("pgpass"),
            authentication: Authentication::read(&section),
            parameters: section.map("parameters").unwrap_or_default(),
            allow_commands_from_dcs: section.flag("allow_commands_from_dcs").unwrap_or(true),
            pg_hba: section.maybe_list("pg_hba"),
            pg_ident: section.maybe_list("pg_ident"),
            use_pg_rewind: section.flag("use_pg_rewind"),
            remove_data_directory_on_rewind_failure: flag(
                "remove_data_directory_on_rewind_failure",
            ),
            remove_data_directory_on_diverged_timelines: flag(
                "remove_data_directory_on_diverged_timelines",
            ),
            remove_data_directory_on_missing_wal: section
                .flag("remove_data_directory_on_missing_wal")
                .unwrap_or(true),
            create_replica_methods: replica_methods(&section),
            recovery_conf: bootstrap::recovery(&section),
            basebackup: section.options("basebackup"),
            pg_ctl_timeout: section.seconds("pg_ctl_timeout").unwrap_or_default(),
            callbacks: hooks::callbacks(&section),
            pre_promote: hooks::program(&section, "pre_promote"),
            before_stop: hooks::program(&section, "before_stop"),
            custom_conf: section.place("custom_conf"),
        };
        warn_of_shared(&section);
        local
    }
}

/// As given, else the first address of `listen` where others can connect to it.
fn connect_address(section: &Section<'_>, listen: &Listen) -> Address {
    if let Some(address) = section.address::<Address>("connect_address") {
        refuse_wildcard(section, &address);
        return address;
    }
    let derived = listen.first_reachable();
    // Without a usable listen there is a complaint about that already.
    let underivable = derived.is_none() && !listen.hosts.is_empty();
    if underivable && section.given("connect_address").is_none() {
        section.missing("connect_address");
    }
    derived.unwrap_or_default()
}

fn bin_names(postgresql: &Section<'_>) -> BTreeMap<String, String> {
    let section = postgresql.section("bin_name");
    let used = |key: &&KeyDoc| key.parent() == "postgresql.bin_name" && key.support == Support::Yes;
    let programs = KEYS.iter().filter(used);
    let name = |key: &KeyDoc| Some((key.name().to_owned(), section.text(key.name())?));
    programs.filter_map(name).collect()
}

/// Settings that must be the same on all nodes are not taken from one node's file.
fn warn_of_shared(section: &Section<'_>) {
    let why = || {
        "it must be the same on all nodes; set it in bootstrap.dcs.postgresql, or in a \
                  running cluster with PATCH /config"
    };
    let parameters = section.given("parameters").map(|node| node.entries()).unwrap_or_default();
    for entry in parameters.iter().filter(|entry| is_controlled(&entry.key)) {
        let why = match entry.key.to_ascii_lowercase().as_str() {
            "listen_addresses" | "port" => "it comes from postgresql.listen",
            "cluster_name" => "it is the scope",
            "hot_standby" => "it is always on",
            _ => why(),
        };
        let key = format!("parameters.{}", entry.key);
        section.warn(&key, &entry.place, WarningKind::Ignored { why: why.to_owned() });
    }
}

/// Keys of a method's section that are no options of its command where it gets no parameters.
const FLAGS: &[&str] = &["command", "no_params", "no_leader", "no_master", "keep_data"];
/// What every command is told, whatever the section says.
const TOLD: &[&str] = &["command", "scope", "role", "datadir", "connstring"];

fn replica_methods(section: &Section<'_>) -> Vec<CreateReplica> {
    let mut names = section.list("create_replica_methods");
    let old = section.list("create_replica_method");
    if names.is_empty() {
        names = old;
    }
    names.iter().filter_map(|name| replica_method(section, name)).collect()
}

/// As Patroni: without a section, or a command in it, the name is the command.
fn replica_method(section: &Section<'_>, name: &str) -> Option<CreateReplica> {
    if name == "basebackup" {
        return Some(CreateReplica::BaseBackup);
    }
    let own = section.section(name);
    let program = match own.given("command") {
        Some(_) => hooks::program(&own, "command"),
        None => Program::parse(name),
    }?;
    let flag = |key: &str| own.flag(key).unwrap_or(false);
    let no_params = flag("no_params");
    let left_out = if no_params { FLAGS } else { TOLD };
    Some(CreateReplica::Command {
        name: name.to_owned(),
        program,
        arguments: hooks::arguments(section, name, left_out),
        no_params,
        // The second is its old name.
        no_leader: flag("no_leader") || flag("no_master"),
        keep_data: flag("keep_data"),
    })
}
