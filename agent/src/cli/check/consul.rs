//! Consul: does it answer, and does the token have the rights that a node needs?

use std::time::Duration;

use hart_config::Config;
use hart_consul::{Behavior, Client, Error, ReadOptions, SessionRequest, TxnOp, TxnOutcome};
use hart_ha::brain::rest_address;

use hart_ha::kv::DynamicConfig;
use hart_ha::round_trip::borne;
use hart_ha::store::Snapshot;
use hart_types::Chain;
use tokio::time::Instant;

use super::item::Item;
use crate::node::keys::Keys;

const SUBJECT: &str = "Consul";
const RIGHTS: &str = "Consul rights";
/// So many round trips are measured.
const LOOKS: usize = 3;
/// No session has this id, so that a transaction with it is rolled back.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// What was found.
pub struct Found {
    /// The lines.
    pub items: Vec<Item>,
    /// The shared settings.
    pub stored: Option<DynamicConfig>,
    /// All of the cluster's keys, where they can be read.
    pub keys: Option<Snapshot>,
}

/// Looks at Consul; nothing is changed but that a session comes and goes.
pub async fn check(config: &Config) -> Found {
    let client = match crate::node::consul_client(config) {
        Ok(client) => client,
        Err(error) => {
            let fail = Item::fail(SUBJECT, Chain(&error).to_string(), "see section consul");
            return Found { items: vec![fail], stored: None, keys: None };
        }
    };
    let mut items = vec![reachable(&client).await];
    if items.iter().any(|item| item.level == super::Level::Fail) {
        return Found { items, stored: None, keys: None };
    }
    let stored = stored(&client, config).await;
    items.push(may_read(&client, config).await);
    items.push(may_write(&client, config).await);
    items.push(may_hold_sessions(&client).await);
    let keys = keys(&client, config).await;
    items.extend(keys.as_ref().and_then(|keys| same_address(keys, config)));
    items.extend(round_trip(&client, config, stored.as_ref()).await);
    Found { items, stored, keys }
}

async fn stored(client: &Client, config: &Config) -> Option<DynamicConfig> {
    let key = format!("{}config", config.kv_prefix());
    let stored = client.kv().get(&key, &ReadOptions::consistent()).await.ok()?.value;
    let raw = stored.and_then(|pair| serde_json::from_slice(&pair.value).ok())?;
    DynamicConfig::from_raw(raw).ok()
}

/// The middle one of a few reads over a connection that is there already.
async fn round_trip(
    client: &Client,
    config: &Config,
    stored: Option<&DynamicConfig>,
) -> Option<Item> {
    let key = |name: &str| format!("{}{name}", config.kv_prefix());
    let consistent = ReadOptions::consistent();
    let ttl = stored.unwrap_or(&config.bootstrap.dynamic).ttl;
    let mut took = Vec::new();
    for _ in 0..LOOKS {
        let begun = Instant::now();
        client.kv().get(&key("status"), &consistent).await.ok()?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Some(judge(took[LOOKS / 2], ttl))
}

fn judge(took: Duration, ttl: Duration) -> Item {
    let (shown, ttl_s, borne) = (took.as_secs_f64() * 1e3, ttl.as_secs_f64(), borne(ttl));
    let what = format!("a round trip takes {shown:.1} ms");
    if took <= borne {
        return Item::ok(SUBJECT, format!("{what}; a ttl of {ttl_s} s bears {borne:.1?}"));
    }
    let remedy = "make Consul faster (its disks, its network), or raise ttl";
    Item::warn(SUBJECT, format!("{what}, and a ttl of {ttl_s} s bears only {borne:.1?}"), remedy)
}

async fn reachable(client: &Client) -> Item {
    match client.status().leader().await {
        Ok(Some(leader)) => match client.agent().self_().await {
            Ok(agent) => Item::ok(
                SUBJECT,
                format!("{} on {}, led by {leader}", agent.version, agent.node_name),
            ),
            // agent:read is not needed to run a node.
            Err(_) => Item::ok(SUBJECT, format!("led by {leader}")),
        },
        Ok(None) => {
            let remedy =
                "see that a majority of its servers runs (`consul operator raft list-peers`)";
            Item::fail(SUBJECT, "it has no leader", remedy)
        }
        Err(error) => {
            let remedy = "start a Consul agent on this machine, or set consul.host";
            Item::fail(SUBJECT, Chain(&error).to_string(), remedy)
        }
    }
}

/// Consul leaves out of a list what may not be read, so a single key is asked for.
async fn may_read(client: &Client, config: &Config) -> Item {
    let key = format!("{}leader", config.kv_prefix());
    match client.kv().get(&key, &ReadOptions::consistent()).await {
        Ok(_) => Item::ok(RIGHTS, format!("keys below {} may be read", config.kv_prefix())),
        Err(error) => denied("keys may not be read", &error),
    }
}

/// A transaction whose last operation cannot hold: Consul looks at the rights of all operations
/// first, and then changes nothing.
async fn may_write(client: &Client, config: &Config) -> Item {
    let key = |name: &str| format!("{}{name}", config.kv_prefix());
    let ops = [
        TxnOp::Set { key: key("members/hart-check"), value: Vec::new() },
        TxnOp::Delete { key: key("members/hart-check") },
        TxnOp::CheckSession { key: key("members/hart-check"), session: NOBODY.to_owned() },
    ];
    match client.txn(&ops).await {
        Ok(TxnOutcome::RolledBack(_)) => {
            Item::ok(RIGHTS, format!("keys below {} may be written", config.kv_prefix()))
        }
        Ok(TxnOutcome::Applied(_)) => Item::warn(
            RIGHTS,
            "a transaction that had to fail was applied",
            "check that a Consul from 1.8 on listens there",
        ),
        Err(error) => denied("keys may not be written", &error),
    }
}

async fn may_hold_sessions(client: &Client) -> Item {
    let session = SessionRequest {
        name: "hart check".to_owned(),
        behavior: Behavior::Delete,
        ttl: Some(Duration::from_secs(10)),
        ..SessionRequest::default()
    };
    let id = match client.session().create(&session).await {
        Ok(id) => id,
        Err(error) => return denied("sessions may not be made", &error),
    };
    match client.session().destroy(&id).await {
        Ok(()) => Item::ok(RIGHTS, "sessions may be made"),
        Err(error) => denied("sessions may not be ended", &error),
    }
}

async fn keys(client: &Client, config: &Config) -> Option<Snapshot> {
    let keys = Keys::new(config.kv_prefix());
    let read = client.kv().get_recurse(keys.prefix(), &ReadOptions::consistent()).await.ok()?;
    Some(keys.snapshot(&read.value).0)
}

/// Another member with this REST address: neither can be asked at its own, so there is no failsafe.
fn same_address(snapshot: &Snapshot, config: &Config) -> Option<Item> {
    let url = config.restapi.url("");
    let mine = rest_address(&url)?;
    let mut others = snapshot.members.iter().filter(|(name, _)| **name != config.name);
    let has_it = |url: &str| rest_address(url).as_ref() == Some(&mine);
    let (name, _) = others.find(|(_, entry)| has_it(&entry.value.api_url))?;
    let found = format!("{name} has the same restapi.connect_address, {}", mine.0);
    let remedy = "give each node the address at which it answers itself; failsafe needs that";
    Some(Item::fail("restapi", found, remedy))
}

fn denied(what: &str, error: &Error) -> Item {
    match error {
        Error::PermissionDenied { rule, .. } => {
            Item::fail(RIGHTS, what, format!("give the token this ACL rule: {rule}"))
        }
        other => Item::fail(RIGHTS, format!("{what}: {}", Chain(other)), "see Consul's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::Level;
    use super::*;
    use hart_consul_dev::{Options, Server};

    fn config(port: u16, token: &str) -> Config {
        let text = format!(
            "scope: ha\nname: n1\nrestapi: {{listen: \"127.0.0.1:8008\"}}\n\
             consul: {{host: \"127.0.0.1:{port}\", token: \"{token}\"}}\n\
             postgresql: {{listen: \"127.0.0.1:5432\", data_dir: /nonexistent/data}}\n"
        );
        hart_config::load_text("t.yml", &text, []).unwrap().config
    }

    #[tokio::test]
    async fn a_good_token_passes_and_leaves_nothing_behind() {
        let options = Options { token: Some("right".into()), ..Options::default() };
        let server = Server::start_with("127.0.0.1:0", options).await.unwrap();
        let config = config(server.addr().port(), "right");
        let items = check(&config).await.items;
        assert!(items.iter().all(|item| item.level == Level::Ok), "{items:?}");
        assert_eq!(items.len(), 5);
        let client = crate::node::consul_client(&config).unwrap();
        let keys = client.kv().keys("service/", &ReadOptions::consistent()).await.unwrap();
        let sessions = client.session().list(&ReadOptions::consistent()).await.unwrap();
        assert!(keys.value.is_empty() && sessions.value.is_empty());
        server.stop().await;
    }

    #[test]
    fn a_slow_consul_is_told_with_what_the_ttl_bears() {
        let ms = Duration::from_millis;
        assert_eq!(judge(ms(900), ms(3000)).level, Level::Ok);
        let slow = judge(ms(901), ms(3000));
        assert_eq!(slow.level, Level::Warn);
        assert!(slow.to_string().contains("bears only 900.0ms"), "{slow}");
    }

    #[tokio::test]
    async fn a_copied_address_is_found() {
        let server = Server::start("127.0.0.1:0").await.unwrap();
        let config = config(server.addr().port(), "");
        let client = crate::node::consul_client(&config).unwrap();
        let put = async |name: &str, port: u16| {
            let key = format!("{}members/{name}", config.kv_prefix());
            let entry = format!(r#"{{"api_url":"http://127.0.0.1:{port}/patroni"}}"#);
            let set = TxnOp::Set { key, value: entry.into_bytes() };
            client.txn(&[set]).await.unwrap();
        };
        put("n1", 8008).await;
        put("n2", 8009).await;
        assert!(check(&config).await.items.iter().all(|item| item.level == Level::Ok));
        put("n3", 8008).await;
        let items = check(&config).await.items;
        let found = items.iter().find(|item| item.level == Level::Fail).unwrap();
        assert!(found.to_string().contains("n3 has the same"), "{found}");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_wrong_token_fails_with_the_rule_that_is_missing() {
        let options = Options { token: Some("right".into()), ..Options::default() };
        let server = Server::start_with("127.0.0.1:0", options).await.unwrap();
        let items = check(&config(server.addr().port(), "wr0ng")).await.items;
        assert!(items.iter().any(|item| item.level == Level::Fail), "{items:?}");
        assert!(items.iter().all(|item| !item.to_string().contains("wr0ng")), "{items:?}");
        server.stop().await;
    }

    #[tokio::test]
    async fn no_consul_is_said_once() {
        let server = Server::start("127.0.0.1:0").await.unwrap();
        let port = server.addr().port();
        server.stop().await;
        let items = check(&config(port, "")).await.items;
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!(items[0].level, Level::Fail);
    }
}
