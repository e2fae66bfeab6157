//! Parameters that this node's PostgreSQL would not start with are left out of its configuration: one
//! misspelt name in the shared settings must not take the whole cluster down at the next restart.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_postgres::{Postgres, Settings};
use hart_types::Chain;

/// How long PostgreSQL's program may take over it.
const LOOK: Duration = Duration::from_secs(5);

const NAMES: &str = "synchronous_standby_names";

type Parameters = BTreeMap<String, String>;

/// What was asked last, and what was refused of it.
#[derive(Clone, Debug, Default)]
pub struct Vetted {
    asked: Option<Parameters>,
    refused: Parameters,
}

impl Vetted {
    /// The settings without what PostgreSQL refuses. What is left out is logged once.
    pub async fn pass(&mut self, postgres: &Postgres, mut settings: Settings) -> Settings {
        let mut all = settings.parameters.clone();
        all.insert(NAMES.to_owned(), settings.standby_names.clone());
        if self.asked.as_ref() != Some(&all) {
            match postgres.vet(&all, LOOK).await {
                Ok(refused) => {
                    self.tell(&refused);
                    self.refused = refused;
                    self.asked = Some(all);
                }
                // As ever: PostgreSQL itself will say what it does not like.
                Err(error) => tracing::info!("the parameters cannot be tried: {}", Chain(&error)),
            }
        }
        settings
            .parameters
            .retain(|name, _| !self.refused.contains_key(&name.to_ascii_lowercase()));
        if self.refused.contains_key(NAMES) {
            settings.standby_names.clear();
        }
        settings
    }

    fn tell(&self, refused: &Parameters) {
        for (name, why) in refused.iter().filter(|(name, why)| self.refused.get(*name) != Some(why))
        {
            tracing::warn!(
                "parameter {name} is left out: {why}; mend it in the shared settings (PATCH /config) or in \
                 this node's file"
            );
        }
    }

    /// How many are left out.
    #[must_use]
    pub fn count(&self) -> usize {
        self.refused.len()
    }

    /// In a sentence, where there are any.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let names: Vec<&str> = self.refused.keys().map(String::as_str).collect();
        (!names.is_empty())
            .then(|| format!("left out of PostgreSQL's configuration: {}", names.join(", ")))
    }
}
