//! `hart dns`: every cluster in Consul, without an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hart_consul::{Client, KvPair, ReadOptions, next_index};
use hart_dns::Publisher;
use hart_ha::store::Snapshot;
use hart_types::{Backoff, Chain};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::options::Options;
use super::watcher::{Common, Watcher};
use crate::cli::below_prefix;
use crate::cli::rest::Rest;

/// Clusters that are watched; more are read once a second. Consul's `http_max_conns_per_client` is
/// 200.
const WATCHED: usize = 128;
/// The longest wait for new clusters.
const WAIT: Duration = Duration::from_secs(10);
/// The list of keys changes with every beat of every lease; it is not read more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// How long Consul may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Finds the clusters and watches them.
pub struct Alone {
    common: Common,
    /// With a slash at its end, where it is not empty.
    folder: String,
    running: BTreeMap<String, JoinHandle<()>>,
}

impl Alone {
    /// Clusters in the folder `namespace` of Consul.
    #[must_use]
    pub fn new(
        client: &Client,
        rest: Rest,
        namespace: &str,
        publisher: Publisher,
        options: Options,
    ) -> Self {
        let common = Common {
            client: client.with_timeout(ANSWER),
            rest,
            publisher,
            options: Arc::new(options),
            waits: Arc::new(Semaphore::new(WATCHED)),
            said: Arc::default(),
        };
        let folder = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        Self { common, folder, running: BTreeMap::new() }
    }

    /// Goes on until it is dropped.
    pub async fn run(mut self) {
        self.begin().await;
        let (mut index, mut retries) = (0, Backoff::default());
        loop {
            let options = ReadOptions::default().wait_for(index, WAIT);
            match self.common.client.kv().keys(&self.folder, &options).await {
                Ok(keys) => {
                    retries.succeeded();
                    index = next_index(index, keys.index);
                    self.follow(&scopes(&self.folder, keys.value.iter().map(String::as_str)));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => {
                    index = 0;
                    tokio::time::sleep(retries.failed()).await;
                }
            }
        }
    }

    /// The first read is one of everything; until then every question is answered with SERVFAIL.
    async fn begin(&mut self) {
        let mut retries = Backoff::default();
        let pairs = loop {
            let options = ReadOptions::default();
            match self.common.client.kv().get_recurse(&self.folder, &options).await {
                Ok(answer) => break answer.value,
                Err(error) => {
                    if !retries.is_failing() {
                        tracing::warn!(
                            "Consul cannot be read, will keep trying; until then DNS answers \
                             SERVFAIL: {}",
                            Chain(&error)
                        );
                    }
                    tokio::time::sleep(retries.failed()).await;
                }
            }
        };
        let arrived = hart_clock::now();
        let found = scopes(&self.folder, pairs.iter().map(|pair| pair.key.as_str()));
        for scope in &found {
            let (watcher, prefix) = self.watcher(scope);
            let snapshot = Snapshot::read(below_prefix(within(&pairs, &prefix), &prefix)).0;
            watcher.seen(snapshot, arrived);
            self.running.insert(scope.clone(), tokio::spawn(watcher.run()));
        }
        self.common.publisher.ready();
        let names: Vec<&str> = found.iter().map(String::as_str).collect();
        tracing::info!("clusters in Consul below {:?}: {}", self.folder, names.join(", "));
    }

    fn watcher(&self, scope: &str) -> (Watcher, String) {
        let prefix = format!("{}{scope}/", self.folder);
        (Watcher::new(self.common.clone(), scope.to_owned(), prefix.clone()), prefix)
    }

    fn follow(&mut self, found: &BTreeSet<String>) {
        self.running.retain(|scope, task| {
            let stays = found.contains(scope);
            if !stays {
                tracing::info!("cluster {scope} is gone from Consul");
                task.abort();
                self.common.publisher.remove(scope);
            }
            stays
        });
        for scope in found {
            if !self.running.contains_key(scope) {
                tracing::info!("cluster {scope} is new in Consul");
                let (watcher, _) = self.watcher(scope);
                self.running.insert(scope.clone(), tokio::spawn(watcher.run()));
            }
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}

/// The clusters whose keys these are: each has shared settings, an identity or a leader.
fn scopes<'a>(folder: &str, keys: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    keys.filter_map(|key| key.strip_prefix(folder)?.split_once('/'))
        .filter(|(_, key)| matches!(*key, "config" | "initialize" | "leader" | "status"))
        .map(|(scope, _)| scope.to_owned())
        .collect()
}

/// The pairs below a prefix; Consul sends them in order.
fn within<'a>(pairs: &'a [KvPair], prefix: &str) -> &'a [KvPair] {
    let start = pairs.partition_point(|pair| pair.key.as_str() < prefix);
    let rest = &pairs[start..];
    let end = rest.iter().take_while(|pair| pair.key.starts_with(prefix)).count();
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_told_from_other_keys() {
        let keys = ["service/b/config", "service/a/leader", "service/x/y/config", "service/lone"];
        assert_eq!(scopes("service/", keys.into_iter()), ["a", "b"].map(str::to_owned).into());
    }
}
