//! Everything a command needs to look at a cluster and to speak with its members.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hart_config::Config;
use hart_consul::{Client, ReadOptions};
use hart_types::Chain;
use tokio::time::timeout;

use crate::cli::cluster::{Cluster, prefix};
use crate::cli::rest::Rest;
use crate::cli::told::{self, Told};
use crate::cli::{Fail, Globals, settings};

/// When Consul has not answered by then, the members are asked.
const QUICK: Duration = Duration::from_secs(1);

/// Consul, the members' REST API, and which cluster is meant.
pub struct Context {
    /// The cluster.
    pub scope: String,
    /// Its folder in Consul, with a slash at its end.
    pub prefix: String,
    /// Consul.
    pub consul: Client,
    /// The members.
    pub rest: Rest,
    namespace: String,
    /// The REST API of this machine's node: it knows the members when Consul does not answer.
    door: String,
    /// The cluster of this machine's node, where another one was named.
    own: Option<String>,
    warned: AtomicBool,
}

impl Context {
    /// Finds out which cluster is meant: the argument, the configuration's scope, or the only
    /// one that Consul has; where Consul does not answer, that of this machine's node.
    ///
    /// # Errors
    /// The configuration cannot be used, or no cluster or several would do.
    pub async fn new(globals: &Globals, cluster: Option<&str>) -> Result<Self, Fail> {
        let settings = settings::load(globals)?;
        let own = settings.scope;
        let context = Self::of(&settings.config, &settings.namespace, "")?;
        let scope = match cluster.map(str::to_owned).or_else(|| own.clone()) {
            Some(scope) => scope,
            None => context.only_cluster().await?,
        };
        let prefix = prefix(&settings.namespace, &scope);
        Ok(Self { prefix, own: own.filter(|own| *own != scope), scope, ..context })
    }

    /// For one cluster of this namespace (without slashes at its ends).
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn of(config: &Config, namespace: &str, scope: &str) -> Result<Self, Fail> {
        Ok(Self {
            scope: scope.to_owned(),
            prefix: prefix(namespace, scope),
            consul: crate::node::consul_client(config)?,
            rest: Rest::new(config)?,
            namespace: namespace.to_owned(),
            door: config.restapi.url(""),
            own: None,
            warned: AtomicBool::new(false),
        })
    }

    /// The cluster as Consul has it now; where Consul does not answer, as the members tell it, which is said on
    /// stderr.
    ///
    /// # Errors
    /// Neither Consul nor a member can be read, or there is no such cluster.
    pub async fn cluster(&self) -> Result<Cluster, Fail> {
        let mut read = pin!(Cluster::read(&self.consul, &self.scope, &self.prefix));
        let read = match timeout(QUICK, &mut read).await {
            Ok(read) => read,
            // It is slow, or gone: who is quicker is believed.
            Err(_) => match self.told().await {
                Ok(told) => return Ok(self.say(told, "it has not answered for a second")),
                Err(_) => read.await,
            },
        };
        match read {
            Ok(cluster) if cluster.is_empty() => Err(self.missing().await),
            Ok(cluster) => Ok(cluster),
            Err(error) if is_away(&error) => match self.told().await {
                Ok(told) => Ok(self.say(told, &Chain(&error).to_string())),
                Err(why) => Err(Fail::from(error).hint(format!(
                    "nor is there a member on this machine to ask ({why}); on a node of the cluster, or with its \
                     configuration file (-c FILE), hart shows what the members say"
                ))),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The cluster as its members tell it, beginning with the one of this machine; `None`: nobody is there to ask.
    pub async fn members_word(&self) -> Option<Cluster> {
        self.told().await.ok().map(|told| told.cluster)
    }

    async fn told(&self) -> Result<Told, String> {
        told::ask(&self.rest, &self.door, Some(&self.scope)).await
    }

    /// Says once that this is not Consul's word.
    fn say(&self, told: Told, why: &str) -> Cluster {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let ago = hart_clock::wall().as_second().saturating_sub(told.seen);
            let seen = match told.seen {
                0 => "has not answered them since they began".to_owned(),
                _ => format!("has answered one of them {ago} s ago"),
            };
            eprintln!(
                "hart: warning: Consul cannot be read ({why}); this is what the members say, beginning with {}; \
                 Consul {seen}",
                told.by
            );
        }
        told.cluster
    }

    async fn only_cluster(&self) -> Result<String, Fail> {
        let names = match known(&self.consul, &self.namespace).await {
            Err(error) if is_away(&error) => match told::ask(&self.rest, &self.door, None).await {
                Ok(told) => vec![told.cluster.scope],
                Err(_) => return Err(error.into()),
            },
            names => names?,
        };
        match names.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Fail::usage(format!("Consul has no cluster below \"{}/\"", self.namespace))
                .hint("name one, or give the configuration file with -c FILE")),
            several => {
                Err(Fail::usage(format!("which cluster? Consul has {}", several.join(", ")))
                    .hint("name one of them after the command"))
            }
        }
    }

    /// There is no such cluster: what there is instead.
    async fn missing(&self) -> Fail {
        let fail = Fail::failed(format!(
            "Consul knows no cluster \"{}\" (nothing below {})",
            self.scope, self.prefix
        ));
        let known = known(&self.consul, &self.namespace).await.unwrap_or_default();
        for other in known.iter().chain(&self.own) {
            let folder = prefix(&self.namespace, other);
            let read = Cluster::read(&self.consul, other, &folder).await;
            if read.is_ok_and(|cluster| cluster.snapshot.members.contains_key(&self.scope)) {
                return fail.hint(format!(
                    "{} is a member of the cluster {other}: the cluster is named first, members follow it",
                    self.scope
                ));
            }
        }
        if known.is_empty() {
            return fail.hint(
                "check the name and the address of Consul; the ACL token must read the folder",
            );
        }
        fail.hint(format!("there are: {}", known.join(", ")))
    }
}

/// Does nobody answer, as when it is away? (A refusal is an answer.)
fn is_away(error: &hart_consul::Error) -> bool {
    use hart_consul::Error;
    match error {
        Error::Connect { .. }
        | Error::Timeout { .. }
        | Error::Broken { .. }
        | Error::Unavailable { .. } => true,
        Error::Status { status, .. } => *status >= 500,
        _ => false,
    }
}

async fn known(consul: &Client, namespace: &str) -> Result<Vec<String>, hart_consul::Error> {
    let folder = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let keys = consul.kv().keys(&folder, &ReadOptions::consistent()).await?.value;
    Ok(scopes(&folder, keys.iter().map(String::as_str)))
}

/// The clusters whose keys these are: each has a `config` or `initialize`.
fn scopes<'a>(folder: &str, keys: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = keys
        .filter_map(|key| key.strip_prefix(folder)?.split_once('/'))
        .filter(|(_, key)| matches!(*key, "config" | "initialize"))
        .map(|(scope, _)| scope.to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_told_from_other_keys() {
        let keys = [
            "service/b/config",
            "service/a/initialize",
            "service/a/config",
            "service/x/y/config",
            "service/lone",
        ];
        assert_eq!(scopes("service/", keys.into_iter()), ["a", "b"]);
        assert_eq!(scopes("", ["ha/config"].into_iter()), ["ha"]);
    }
}
