//! From keys in Consul to answers.

mod outage;
mod pictures;
mod sights;
mod watching;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hart_consul::{Client, PutOptions};
use hart_consul_dev::Server;
use hart_dns::{Counters, Publisher, Responder, Transport};
use hart_ha::store::{RawEntry, Snapshot};
use serde_json::{Value, json};

use super::Options;

/// Generous: a loaded machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);

fn options() -> Options {
    let text = "scope: ha\nname: n1\nrestapi: {listen: '127.0.0.1:8008'}\nconsul: {host: c}\n\
                postgresql: {listen: '127.0.0.1:5432', data_dir: /d}\ndns: {zone: pg.test}\n";
    let config = hart_config::load_text("n1.yml", text, []).unwrap().config;
    Options::new(&config.dns.unwrap(), Vec::new()).unwrap()
}

fn member(last: u8, role: &str, more: Value) -> Value {
    let mut member = json!({
        "conn_url": format!("postgres://10.0.0.{last}:5432/postgres"),
        "api_url": format!("http://10.0.0.{last}:8008/patroni"),
        "state": "running", "role": role, "timeline": 3, "replay_lsn": 1000,
    });
    let more = more.as_object().cloned().unwrap_or_default();
    member.as_object_mut().unwrap().extend(more);
    member
}

fn status(holder: &str, beat: u64, ttl_ms: u64, state: &str) -> Value {
    let lease =
        json!({"holder": holder, "term": 4, "ttl_ms": ttl_ms, "beat": beat, "state": state});
    json!({"optime": 2000, "lease": lease})
}

/// n1 leads, n2 and n3 follow.
fn keys() -> Vec<(&'static str, Value)> {
    vec![
        ("initialize", json!("1")),
        ("status", status("n1", 1, 600_000, "held")),
        ("members/n1", member(1, "primary", json!({}))),
        ("members/n2", member(2, "replica", json!({}))),
        ("members/n3", member(3, "replica", json!({}))),
        ("sync", json!({"leader": "n1", "sync_standby": "n2"})),
    ]
}

fn snapshot(keys: &[(&str, Value)]) -> Snapshot {
    let texts: Vec<_> = keys.iter().map(|(key, value)| (*key, value.to_string())).collect();
    let entries = texts.iter().map(|(key, text)| RawEntry {
        key,
        value: text.as_bytes(),
        index: 7,
        session: None,
    });
    let (snapshot, problems) = Snapshot::read(entries);
    assert_eq!(problems, []);
    snapshot
}

/// A Consul in memory, a zone and what serves it.
struct Rig {
    consul: Server,
    client: Client,
    responder: Responder,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    async fn start(clusters: &[(&str, Vec<(&'static str, Value)>)]) -> Self {
        let consul = Server::start("127.0.0.1:0").await.unwrap();
        let client = hart_consul::Config { endpoints: vec![consul.url()], ..<_>::default() };
        let client = Client::new(client).unwrap();
        for (scope, keys) in clusters {
            for (key, value) in keys {
                put(&client, &format!("service/{scope}/{key}"), value).await;
            }
        }
        let options = options();
        let publisher = Publisher::new(options.settings.clone(), 1);
        let responder = Responder::new(publisher.clone(), Arc::new(Counters::default()));
        let config = "{scope: ha, name: n1, restapi: {listen: '127.0.0.1:1'}, consul: {host: c}, \
                      postgresql: {listen: '127.0.0.1:2', data_dir: /d}}";
        let config = hart_config::load_text("n1.yml", config, []).unwrap().config;
        let rest = crate::cli::rest::Rest::new(&config).unwrap();
        let alone = super::Alone::new(&client, rest, "service", publisher, options);
        Self { consul, client, responder, task: tokio::spawn(alone.run()) }
    }

    async fn put(&self, key: &str, value: &Value) {
        put(&self.client, key, value).await;
    }

    /// Response code and addresses, sorted.
    fn ask(&self, name: &str) -> (u8, Vec<Ipv4Addr>) {
        ask(&self.responder, name)
    }

    /// Waits until `name` has these addresses.
    async fn until(&self, name: &str, last: &[u8]) {
        let wanted = (0, last.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect());
        self.until_code(name, &wanted).await;
    }

    async fn until_code(&self, name: &str, wanted: &(u8, Vec<Ipv4Addr>)) {
        let wait = async {
            while self.ask(name) != *wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            panic!("{name} is {:?}, not {wanted:?}", self.ask(name));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn put(client: &Client, key: &str, value: &Value) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    assert!(client.kv().put(key, text, &PutOptions::default()).await.unwrap());
}

fn ask(responder: &Responder, name: &str) -> (u8, Vec<Ipv4Addr>) {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    let mut answer = Vec::new();
    assert!(responder.respond(&packet, Transport::Udp, &mut answer));
    // Records of addresses have 16 bytes, the last four of which are the address.
    let count = usize::from(answer[7]);
    let records = answer[packet.len()..].chunks(16).take(count);
    let mut found: Vec<_> =
        records.map(|r| Ipv4Addr::from(<[u8; 4]>::try_from(&r[12..16]).unwrap())).collect();
    found.sort();
    (answer[3] & 15, found)
}
