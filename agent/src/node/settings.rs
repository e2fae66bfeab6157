//! From the configuration file and the cluster's settings to what each room wants to know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_config::{Account, Config, CreateReplica, effective_postgresql};
use hart_ha::brain;
use hart_ha::kv::DynamicConfig;
use hart_postgres::{
    Beginning, Credentials, CustomBootstrap, ReplicaCommand, ReplicaMethod, Secret, Settings,
    ToolOption,
};

use super::state_dir;

/// How far apart the beats of two runs of the agent may begin.
const BEATS: std::ops::RangeInclusive<u64> = 1..=1 << 24;

/// What the brain is told; `shared` counts until Consul has settings.
pub fn brain(config: &Config, instance: &str, shared: &DynamicConfig) -> brain::Settings {
    let unfit = super::unfit::problem(config).is_some();
    let postgresql = &config.postgresql;
    brain::Settings {
        name: config.name.clone(),
        instance: instance.to_owned(),
        tags: super::unfit::tags(config, unfit),
        ever_leads: config.tags.may_fail_over(),
        bootstrap: shared.clone(),
        conn_url: format!("postgres://{}/postgres", postgresql.connect_address),
        api_url: config.restapi.url("/patroni"),
        clone_after_failed_rewind: postgresql.remove_data_directory_on_rewind_failure,
        clone_when_diverged: postgresql.remove_data_directory_on_diverged_timelines,
        clone_when_wal_is_gone: postgresql.remove_data_directory_on_missing_wal,
        // Known with the shared settings.
        archive: false,
        restores_alone: restores_alone(config),
        pause: config.pgbouncer.as_ref().map_or(Duration::ZERO, |poolers| poolers.pause_timeout),
        beats: fastrand::u64(BEATS),
    }
}

/// Is there a way to make a replica that needs no leader?
pub fn restores_alone(config: &Config) -> bool {
    replica_methods(config).iter().any(ReplicaMethod::works_alone)
}

/// PostgreSQL's settings, and what was ignored in them.
pub fn postgres(config: &Config, dynamic: &DynamicConfig) -> (Settings, Vec<String>) {
    let file = &config.postgresql;
    let effective = effective_postgresql(config, dynamic);
    let mut settings = Settings::new(&config.scope, &config.name, &file.data_dir);
    settings.state_dir = Some(state_dir::find(config));
    settings.config_dir.clone_from(&file.config_dir);
    settings.custom_conf.clone_from(&file.custom_conf);
    settings.bin_dir.clone_from(&file.bin_dir);
    settings.bin_name.clone_from(&file.bin_name);
    settings.listen_addresses = file.listen.addresses();
    settings.port = file.listen.port;
    settings.socket_dir = match effective.parameters.get("unix_socket_directories") {
        Some(dirs) => hart_postgres::first_socket_dir(dirs, &file.data_dir),
        None => default_socket_dir(&state_dir::find(config), settings.port),
    };
    settings.connect_host = Some(file.connect_address.host.clone());
    settings.account = hart_guard::privilege::home_and_name().to_vec();
    let accounts = &file.authentication;
    settings.superuser = credentials(&accounts.superuser);
    settings.replication = credentials(&accounts.replication);
    settings.rewind = accounts.rewind.as_ref().map(credentials);
    settings.pgpass = file.pgpass.clone().unwrap_or_else(|| state_dir::find(config).join("pgpass"));
    settings.initdb = tool_options(&config.bootstrap.initdb);
    settings.beginning = beginning(config);
    settings.replica_methods = replica_methods(config);
    settings.recovery.clone_from(&file.recovery_conf);
    settings.basebackup = tool_options(&file.basebackup);
    settings.parameters = effective.parameters;
    settings.standby_names = effective.standby_names;
    settings.pg_hba = effective.pg_hba.unwrap_or_else(|| config.bootstrap.pg_hba.clone());
    settings.pg_ident = effective.pg_ident.unwrap_or_default();
    settings.use_slots = effective.use_slots;
    // A node that never leads needs none.
    settings.logical_slots =
        effective.use_slots && config.tags.may_fail_over() && dynamic.slots.any_logical();
    settings.use_pg_rewind = effective.use_pg_rewind;
    (settings, effective.warnings)
}

/// How a new cluster begins. A command is told what Patroni tells it.
fn beginning(config: &Config) -> Beginning {
    let (bootstrap, hooks) = (&config.bootstrap, &config.hooks);
    let custom = bootstrap.custom.as_ref().map(|custom| {
        let mut words = custom.program.words().to_vec();
        if !custom.no_params {
            words.push(format!("--scope={}", config.scope));
            words.push(format!("--datadir={}", config.postgresql.data_dir.display()));
        }
        words.extend(custom.arguments.iter().cloned());
        CustomBootstrap {
            name: custom.name.clone(),
            words,
            keep_recovery: custom.keep_existing_recovery_conf,
            recovery: custom.recovery_conf.clone(),
            within: hooks.restore_timeout,
        }
    });
    Beginning {
        custom,
        post_bootstrap: bootstrap.post_bootstrap.as_ref().map(|program| program.words().to_vec()),
        post_bootstrap_within: hooks.post_bootstrap_timeout,
    }
}

fn replica_methods(config: &Config) -> Vec<ReplicaMethod> {
    let file = &config.postgresql;
    let method = |method: &CreateReplica| match method {
        CreateReplica::BaseBackup => ReplicaMethod::BaseBackup,
        CreateReplica::Command { name, program, arguments, no_params, no_leader, keep_data } => {
            ReplicaMethod::Command(ReplicaCommand {
                name: name.clone(),
                words: program.words().iter().chain(arguments).cloned().collect(),
                params: !no_params,
                no_leader: *no_leader,
                keep_data: *keep_data,
                within: config.hooks.restore_timeout,
            })
        }
    };
    file.create_replica_methods.iter().map(method).collect()
}

/// Where there is no directory of the distribution's, the one beside the data directory, which is
/// PostgreSQL's alone; no socket at all where its path would be too long.
fn default_socket_dir(home: &Path, port: u16) -> Option<PathBuf> {
    /// `sun_path`, with its NUL.
    const LONGEST: usize = 107;
    let fits = |dir: &PathBuf| dir.join(format!(".s.PGSQL.{port}")).as_os_str().len() <= LONGEST;
    hart_postgres::default_socket_dir().or_else(|| Some(home.to_owned()).filter(fits))
}

fn tool_options(options: &[(String, Option<String>)]) -> Vec<ToolOption> {
    let option = |(name, value): &(String, Option<String>)| ToolOption {
        name: name.clone(),
        value: value.clone(),
    };
    options.iter().map(option).collect()
}

fn credentials(account: &Account) -> Credentials {
    Credentials {
        username: account.username.clone(),
        password: account.password.as_ref().map(|secret| Secret::new(secret.expose())),
        conninfo: account.options.clone(),
    }
}

/// The client for Consul.
///
/// # Errors
/// A setting that cannot be used.
pub fn consul(config: &Config) -> hart_consul::Result<hart_consul::Client> {
    hart_consul::Client::new(consul_settings(config))
}

/// Where Consul is, and what is shown to it.
pub fn consul_settings(config: &Config) -> hart_consul::Config {
    use hart_config::ConsulToken;
    let consul = &config.consul;
    hart_consul::Config {
        endpoints: consul.endpoints.clone(),
        token: match &consul.token {
            ConsulToken::None => hart_consul::Token::None,
            ConsulToken::Value(secret) => hart_consul::Token::Value(secret.expose().to_owned()),
            ConsulToken::File(path) => hart_consul::Token::File(path.clone()),
        },
        tls: hart_consul::Tls {
            ca_cert: consul.cacert.clone(),
            client_cert: consul.cert.clone(),
            client_key: consul.key.clone(),
            verify: consul.verify,
            ..hart_consul::Tls::default()
        },
        datacenter: consul.dc.clone(),
        connect_timeout: hart_ha::round_trip::LONGEST,
        ..hart_consul::Config::default()
    }
}
