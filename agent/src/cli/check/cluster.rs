//! What the cluster that is there says of this node: is its name another's, its address, its data another
//! cluster's, and does the leader let it in? Each of these is found too late otherwise: at the agent's start, or
//! when a replica is copied.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use hart_config::Config;
use hart_ha::brain::{host_and_port, rest_address};
use hart_ha::kv::DynamicConfig;
use hart_ha::store::Snapshot;
use hart_postgres::{Postgres, RunAs, Upstream};
use hart_types::Chain;

use super::item::Item;

const NAME: &str = "name";
const ADDRESS: &str = "address";
const DATA: &str = "data directory";
const LOGINS: &str = "logins";
const INITDB: &str = "initdb";
const LOOK: Duration = Duration::from_secs(10);
/// For a way to the leader.
const REACH: Duration = Duration::from_secs(2);

/// Looks at the cluster's keys, at the data directory and at the leader; nothing is changed.
pub async fn check(
    config: &Config,
    dynamic: &DynamicConfig,
    cluster: Option<&Snapshot>,
    owner: Option<RunAs>,
) -> Vec<Item> {
    let nothing = Snapshot::default();
    let keys = cluster.unwrap_or(&nothing);
    let (mut settings, _) = crate::node::postgres_settings(config, dynamic);
    settings.run_as = owner;
    let scratch = Scratch::new(owner);
    settings.state_dir = Some(scratch.0.clone());
    settings.pgpass = scratch.0.join("pgpass");
    let postgres = Postgres::new(settings);
    let mut items: Vec<Item> = name(config, keys).into_iter().collect();
    items.extend(address(config, keys));
    let found = postgres.control_data(LOOK).await.ok();
    let system = found.map(|control| control.system_identifier);
    items.extend(data(system.as_deref(), keys));
    if system.is_none() && cluster_id(keys).is_none() && config.bootstrap.custom.is_none() {
        items.extend(initdb(&postgres).await);
    }
    items.extend(logins(&postgres, config, keys).await);
    items
}

/// Another node lives under this name.
fn name(config: &Config, keys: &Snapshot) -> Option<Item> {
    let entry = keys.members.get(&config.name).filter(|entry| entry.session.is_some())?;
    let theirs = &entry.value.api_url;
    (rest_address(theirs) != rest_address(&config.restapi.url(""))).then(|| {
        let found = format!("a member called {} lives at {theirs}", config.name);
        Item::fail(
            NAME,
            found,
            "give this node another name; two of one name are never run together",
        )
    })
}

/// Another member has this address of PostgreSQL.
fn address(config: &Config, keys: &Snapshot) -> Option<Item> {
    let mine = &config.postgresql.connect_address;
    let has_it = |url: &str| host_and_port(url) == Some((mine.host.clone(), mine.port));
    let others = keys.members.iter().filter(|(name, _)| **name != config.name);
    let (name, _) = others.into_iter().find(|(_, entry)| has_it(&entry.value.conn_url))?;
    let found = format!("{name} has the same postgresql.connect_address, {mine}");
    Some(Item::fail(ADDRESS, found, "give each node the address at which the others reach it"))
}

fn cluster_id(keys: &Snapshot) -> Option<&str> {
    keys.initialize.as_ref().map(|id| id.value.as_str()).filter(|id| !id.is_empty())
}

/// Data of a cluster that is not this one.
fn data(system: Option<&str>, keys: &Snapshot) -> Option<Item> {
    let (mine, theirs) = (system?, cluster_id(keys)?);
    if mine == theirs {
        return Some(Item::ok(DATA, format!("it is of this cluster ({theirs})")));
    }
    let found = format!(
        "it is of another cluster: its system identifier is {mine}, the cluster's is {theirs}"
    );
    let remedy =
        "set postgresql.data_dir or scope right; or move the directory away, and it is copied anew";
    Some(Item::fail(DATA, found, remedy))
}

/// Only where a cluster is to be made by it.
async fn initdb(postgres: &Postgres) -> Option<Item> {
    match postgres.refused_by_initdb(LOOK).await {
        Ok(None) => Some(Item::ok(INITDB, "its options are taken")),
        Ok(Some(words)) => Some(Item::fail(INITDB, words, "correct bootstrap.initdb")),
        // Without programs there is a line about that.
        Err(error @ hart_postgres::Error::Option { .. }) => {
            Some(Item::fail(INITDB, Chain(&error).to_string(), "take it out of bootstrap.initdb"))
        }
        Err(_) => None,
    }
}

/// Does the leader let in whom this node is to go in as?
async fn logins(postgres: &Postgres, config: &Config, keys: &Snapshot) -> Vec<Item> {
    let Some(leader) = keys.leader_name().filter(|name| *name != config.name) else {
        return Vec::new();
    };
    let at = keys.member(leader).and_then(|member| host_and_port(&member.conn_url));
    let Some((host, port)) = at else {
        let found = format!("{leader}, which leads, has no entry in Consul: its agent is away");
        return vec![Item::warn(LOGINS, found, "start the agent there")];
    };
    let place = format!("{leader} ({host}:{port})");
    let way = tokio::net::TcpStream::connect((host.as_str(), port));
    if !matches!(tokio::time::timeout(REACH, way).await, Ok(Ok(_))) {
        let remedy = "see whether it runs, and that nothing is between";
        return vec![Item::warn(
            LOGINS,
            format!("{place}, which leads, cannot be reached from here"),
            remedy,
        )];
    }
    let upstream = Upstream { host, port };
    let settings = postgres.settings();
    let mut results = vec![
        (
            "superuser",
            settings.superuser.username.clone(),
            postgres.accepts_writes(&upstream, LOOK).await.map(drop),
        ),
        (
            "replication",
            settings.replication.username.clone(),
            postgres.prove_replication(&upstream, LOOK).await,
        ),
    ];
    if let Some(rewind) = &settings.rewind {
        let asked = postgres.upstream_state(&upstream, LOOK).await.map(drop);
        results.push(("rewind", rewind.username.clone(), asked));
    }
    let item = |(role, user, result): (&str, String, hart_postgres::Result<()>)| match result {
        Ok(()) => Item::ok(LOGINS, format!("{place} takes {user} ({role})")),
        Err(error) => Item::fail(
            LOGINS,
            format!("{place} does not take {user} ({role}): {}", Chain(&error)),
            format!("correct postgresql.authentication.{role}, or pg_hba there"),
        ),
    };
    results.into_iter().map(item).collect()
}

/// For the password file of PostgreSQL's programs; gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    /// Nobody else may read it. Where it cannot be made, the login that needs it says so.
    fn new(owner: Option<RunAs>) -> Self {
        let dir = std::env::temp_dir().join(format!("hart-check-{:016x}", fastrand::u64(..)));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        if let (Ok(()), Some(owner)) = (made, owner) {
            let _ = std::os::unix::fs::chown(&dir, Some(owner.uid), Some(owner.gid));
        }
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::Level;
    use super::*;
    use crate::cli::cluster::tests::made;

    fn config(name: &str, rest: u16, port: u16) -> Config {
        let text = format!(
            "scope: ha\nname: {name}\nrestapi: {{listen: '10.0.0.1:{rest}'}}\nconsul: {{}}\n\
             postgresql: {{listen: '10.0.0.1:{port}', data_dir: /d}}\n"
        );
        hart_config::load_text("t.yml", &text, []).unwrap().config
    }

    #[test]
    fn a_name_of_another_node_is_found() {
        let mut keys = made().snapshot;
        let level = |keys: &Snapshot, rest| name(&config("n2", rest, 5433), keys).map(|i| i.level);
        assert_eq!(level(&keys, 8008), None, "its session has ended");
        keys.members.get_mut("n2").unwrap().session = Some("s".into());
        assert_eq!(level(&keys, 8008), Some(Level::Fail));
        assert_eq!(level(&keys, 15433), None, "it is this one");
    }

    #[test]
    fn an_address_of_another_member_is_found() {
        let keys = made().snapshot;
        let item = address(&config("n9", 8008, 5432), &keys).unwrap();
        assert!(item.level == Level::Fail && item.found.starts_with("n1 "), "{item}");
        assert_eq!(address(&config("n1", 8008, 5432), &keys), None);
        assert_eq!(address(&config("n9", 8008, 5999), &keys), None);
    }

    #[test]
    fn data_of_another_cluster_is_found() {
        let keys = made().snapshot;
        let level = |system| data(system, &keys).map(|item| item.level);
        assert_eq!(level(Some("7301234567890123456")), Some(Level::Ok));
        assert_eq!(level(Some("7309999999999999999")), Some(Level::Fail));
        assert_eq!((level(None), data(Some("7"), &Snapshot::default())), (None, None));
    }
}
