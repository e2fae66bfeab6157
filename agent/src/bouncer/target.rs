//! Poolers whose databases lead to the primary by themselves (a name, a virtual address, HAProxy):
//! they go on when that leads to the new one.

use std::collections::BTreeSet;
use std::time::Duration;

use hart_config::Config;
use hart_names::Names;
use hart_postgres::{Postgres, Upstream};
use hart_types::Chain;
use tokio::time::Instant;

use super::admin::Admin;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// Who looks: the superuser of the configuration, encrypted as its options say.
#[derive(Clone)]
pub struct Looker {
    postgres: Postgres,
}

/// Where a pooler sends its clients.
type Place = (String, u16);

impl Looker {
    /// Looks as the superuser of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (settings, _) = crate::node::postgres_settings(config, &config.bootstrap.dynamic);
        Self { postgres: Postgres::new(settings) }
    }

    /// For a look of another kind.
    #[must_use]
    pub fn postgres(&self) -> Postgres {
        self.postgres.clone()
    }

    /// Do all places that this pooler sends clients to accept writes?
    ///
    /// # Errors
    /// Which does not yet, and why.
    pub async fn leads_to_primary(&self, pooler: &Admin) -> Result<(), String> {
        let places = match pooler.table("SHOW DATABASES", ["host", "port"]).await {
            Err(super::AdminError::Absent(_)) => return Ok(()),
            rows => rows.map_err(|error| error.to_string())?,
        };
        let places: BTreeSet<Place> = places.into_iter().filter_map(place).collect();
        let known = pooler.table("SHOW DNS_HOSTS", ["hostname", "ttl", "addrs"]).await;
        let known = known.map_err(|error| error.to_string())?;
        for (host, port) in &places {
            let place = format!("{host}:{port}");
            let at = Upstream { host: host.clone(), port: *port };
            let why = match self.postgres.accepts_writes(&at, LOOK).await {
                Ok(true) => None,
                Ok(false) => Some("it is no primary".to_owned()),
                Err(error) => Some(Chain(&error).to_string()),
            };
            if let Some(why) = why {
                return Err(format!("{place}, where PgBouncer sends clients: {why}"));
            }
            self.is_forgotten(host, &known).await.map_err(|why| format!("{place}: {why}"))?;
        }
        Ok(())
    }

    /// PgBouncer remembers what a name was: no longer than its `dns_max_ttl`.
    async fn is_forgotten(&self, host: &str, known: &[Vec<String>]) -> Result<(), String> {
        let entry = known.iter().find(|row| row[0].eq_ignore_ascii_case(host));
        let Some([_, ttl, remembered]) = entry.map(Vec::as_slice) else { return Ok(()) };
        if ttl.parse::<i64>().is_ok_and(|ttl| ttl <= 0) {
            return Ok(());
        }
        let found = Names::system().resolve_now(host, Instant::now() + LOOK).await;
        let found = found.map_err(|error| error.to_string())?;
        let now: BTreeSet<String> = found.iter().map(|address| address.ip().to_string()).collect();
        let known: BTreeSet<_> = remembered.split(',').map(|at| at.trim().to_owned()).collect();
        let same = !known.is_empty() && known.is_subset(&now);
        same.then_some(()).ok_or_else(|| format!("PgBouncer still takes it for {remembered}"))
    }
}

/// A host over TCP; a list of hosts has no primary that could be waited for.
fn place(row: Vec<String>) -> Option<Place> {
    let [host, port] = row.try_into().ok()?;
    let one = !host.is_empty() && !host.starts_with('/') && !host.contains(',');
    one.then_some((host, port.parse().ok()?))
}
