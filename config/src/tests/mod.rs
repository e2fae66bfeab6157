//! Tests of the whole: text in, configuration or exact complaint out.

mod consumers;
mod directory;
mod effective;
mod environment;
mod errors;
mod hooks;
mod random;
mod sample;
mod warnings;

use crate::{Config, Error, Loaded, load_text};

/// The configuration that the documentation gives to begin with.
const SAMPLE: &str = r#"scope: ha
name: n1
restapi: {listen: "10.0.0.21:8008", connect_address: "10.0.0.21:8008"}
consul: {host: "127.0.0.1:8500", register_service: true}
bootstrap:
  dcs:
    ttl: 5
    loop_wait: 1
    maximum_lag_on_failover: 1048576
    failsafe_mode: true
    synchronous_mode: false
    postgresql: {use_pg_rewind: true, use_slots: true, parameters: {max_connections: 50, wal_keep_size: 128MB}}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: "10.0.0.21,127.0.0.1:5432"
  connect_address: "10.0.0.21:5432"
  data_dir: /var/lib/hart/n1/data
  bin_dir: /usr/lib/postgresql/15/bin
  pgpass: /var/lib/hart/n1/pgpass
  authentication:
    superuser: {username: postgres, password: postgres}
    replication: {username: replicator, password: rep}
    rewind: {username: rewinder, password: rew}
  parameters: {unix_socket_directories: /var/lib/hart/n1}
  pg_hba: ["local all all trust", "host all all 0.0.0.0/0 md5", "host replication replicator 0.0.0.0/0 md5"]
watchdog: {mode: off}
tags: {nofailover: false}
"#;

/// The least that is accepted.
const LEAST: &str = "\
scope: ha
name: n1
restapi: {listen: '127.0.0.1:8008'}
consul: {}
postgresql: {listen: '127.0.0.1:5432', data_dir: /data}
";

fn try_with(more: &str) -> Result<Loaded, Error> {
    // What a test adds replaces the line of the same key.
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let replaced: Vec<_> = more.lines().map(key).collect();
    let kept = LEAST.lines().filter(|line| !replaced.contains(&key(line)));
    let text = more.lines().chain(kept).collect::<Vec<_>>().join("\n");
    load_text("n1.yml", &text, [])
}

fn with(more: &str) -> Config {
    try_with(more).unwrap().config
}

fn error(more: &str) -> String {
    try_with(more).unwrap_err().to_string()
}

fn warnings(more: &str) -> Vec<String> {
    try_with(more).unwrap().warnings.iter().map(ToString::to_string).collect()
}

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
