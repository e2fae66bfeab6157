//! The shared settings as this node saw them last, kept beside the data directory (Patroni's
//! `patroni.dynamic.json`): before Consul has answered, and where it has lost them, they count instead of
//! `bootstrap.dcs`, which is of the day on which the cluster was made.

use std::path::{Path, PathBuf};

use hart_config::Config;
use hart_ha::kv::DynamicConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::home::kept;

const FILE: &str = "settings.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// Of which cluster they are: a copy may serve as the beginning of another one.
    scope: String,
    settings: Map<String, Value>,
}

/// See the module's text.
#[derive(Debug)]
pub struct KnownSettings {
    path: PathBuf,
    kept: Option<Kept>,
    /// They are from an earlier run of the agent, and Consul has shown none since.
    remembered: Option<DynamicConfig>,
    told: bool,
}

impl KnownSettings {
    /// As an earlier run has kept them in this directory. Where there is no data, a cluster is made, or copied:
    /// then what was before does not count.
    pub fn read(home: &Path, config: &Config) -> Self {
        let path = home.join(FILE);
        let kept = kept::read(&path).filter(|kept: &Kept| kept.scope == config.scope);
        let data = config.postgresql.data_dir.join("PG_VERSION").exists();
        let read = |kept: &Kept| {
            let read = DynamicConfig::from_raw(kept.settings.clone());
            read.map_err(|error| tracing::warn!("{} is ignored: {error}", path.display())).ok()
        };
        let remembered = kept.as_ref().filter(|_| data).and_then(read);
        Self { path, kept, remembered, told: false }
    }

    /// What counts until Consul has settings.
    #[must_use]
    pub fn or<'a>(&'a self, bootstrap: &'a DynamicConfig) -> &'a DynamicConfig {
        self.remembered.as_ref().unwrap_or(bootstrap)
    }

    /// Consul has these.
    pub fn saw(&mut self, scope: &str, settings: &Map<String, Value>) {
        (self.remembered, self.told) = (None, false);
        let known = |kept: &Kept| kept.scope == scope && kept.settings == *settings;
        if !self.kept.as_ref().is_some_and(known) {
            let new = Kept { scope: scope.to_owned(), settings: settings.clone() };
            kept::write(self.path.clone(), &new);
            self.kept = Some(new);
        }
    }

    /// Consul has none, and gets them from this node.
    pub fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if self.remembered.is_some() {
            tracing::warn!(
                "Consul has no shared settings of this cluster: they are written anew as this node knew them \
                 last ({}), not as bootstrap.dcs has them; check them (GET /config)",
                self.path.display()
            );
        } else if self.kept.is_some() {
            tracing::info!("the shared settings are gone from Consul: they are written anew");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn what_was_seen_last_counts_as_long_as_there_is_data() {
        let dir = std::env::temp_dir().join(format!("hart-known-{:x}", fastrand::u64(..)));
        let data = dir.join("data");
        fs::create_dir_all(&data).unwrap();
        let config = |scope: &str| {
            let text = format!(
                "scope: {scope}\nname: n1\nconsul: {{host: '127.0.0.1:8500'}}\n\
                 bootstrap: {{dcs: {{loop_wait: 3}}}}\nrestapi: {{listen: '127.0.0.1:8008'}}\n\
                 postgresql:\n  listen: '127.0.0.1:5432'\n  data_dir: {}\n",
                data.display()
            );
            hart_config::load_text("n1.yml", &text, []).unwrap().config
        };
        let loop_wait = |scope: &str| {
            let config = config(scope);
            let known = KnownSettings::read(&dir, &config);
            known.or(&config.bootstrap.dynamic).loop_wait.as_secs()
        };
        let mut known = KnownSettings::read(&dir, &config("demo"));
        known.saw("demo", &serde_json::from_str(r#"{"loop_wait": 7, "mine": [1]}"#).unwrap());
        while !dir.join(FILE).exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(loop_wait("demo"), 3, "there is no data");
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        assert_eq!((loop_wait("demo"), loop_wait("copy")), (7, 3));
        fs::write(dir.join(FILE), r#"{"scope": "demo", "settings": {"loop_wait": "soon"}}"#)
            .unwrap();
        assert_eq!(loop_wait("demo"), 3, "it cannot be read");
        fs::remove_dir_all(&dir).unwrap();
    }
}
