//! Everything a command needs to look at a cluster and to speak with its members.

use hart_consul::{Client, ReadOptions};

use crate::cli::cluster::{Cluster, prefix};
use crate::cli::rest::Rest;
use crate::cli::{Fail, Globals, settings};

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
}

impl Context {
    /// Finds out which cluster is meant: the argument, the configuration's scope, or the only
    /// one that Consul has.
    ///
    /// # Errors
    /// The configuration cannot be used, or no cluster or several would do.
    pub async fn new(globals: &Globals, cluster: Option<&str>) -> Result<Self, Fail> {
        let settings = settings::load(globals)?;
        let consul = crate::node::consul_client(&settings.config)?;
        let rest = Rest::new(&settings.config)?;
        let scope = match cluster.map(str::to_owned).or(settings.scope) {
            Some(scope) => scope,
            None => only_cluster(&consul, &settings.namespace).await?,
        };
        Ok(Self { prefix: prefix(&settings.namespace, &scope), scope, consul, rest })
    }

    /// The cluster as Consul has it now.
    ///
    /// # Errors
    /// Consul cannot be read, or there is no such cluster.
    pub async fn cluster(&self) -> Result<Cluster, Fail> {
        let cluster = Cluster::read(&self.consul, &self.scope, &self.prefix).await?;
        if cluster.is_empty() {
            return Err(Fail::failed(format!(
                "Consul knows no cluster \"{}\" (nothing below {})",
                self.scope, self.prefix
            ))
            .hint("check the name and the address of Consul; the ACL token must read the folder"));
        }
        Ok(cluster)
    }
}

async fn only_cluster(consul: &Client, namespace: &str) -> Result<String, Fail> {
    let folder = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let keys = consul.kv().keys(&folder, &ReadOptions::consistent()).await?.value;
    let mut names: Vec<String> = scopes(&folder, keys.iter().map(String::as_str));
    match (names.pop(), names.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Fail::usage(format!("Consul has no cluster below \"{folder}\""))
            .hint("name one, or give the configuration file with -c FILE")),
        (Some(last), false) => {
            names.push(last);
            Err(Fail::usage(format!("which cluster? Consul has {}", names.join(", ")))
                .hint("name one of them after the command"))
        }
    }
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
