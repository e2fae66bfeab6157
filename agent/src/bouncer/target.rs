//! Poolers whose databases lead to the primary by themselves (a name, a virtual address, HAProxy):
//! they go on when that leads to the new one.

use std::collections::BTreeSet;
use std::time::Duration;

use hart_config::{Account, Config};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::admin::Admin;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// Who looks.
#[derive(Clone, Debug)]
pub struct Looker {
    who: Account,
}

/// Where a pooler sends its clients.
type Place = (String, u16);

impl Looker {
    /// Looks as the superuser of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { who: config.postgresql.authentication.superuser.clone() }
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
            let looked = timeout(LOOK, self.accepts_writes(host, *port)).await;
            let looked = looked.unwrap_or_else(|_| Err("no answer".to_owned()));
            looked.map_err(|why| format!("{place}, where PgBouncer sends clients: {why}"))?;
            self.is_forgotten(host, &known).await.map_err(|why| format!("{place}: {why}"))?;
        }
        Ok(())
    }

    async fn accepts_writes(&self, host: &str, port: u16) -> Result<(), String> {
        let mut config = tokio_postgres::Config::new();
        config.user(&self.who.username).dbname("postgres").host(host).port(port);
        config.application_name("hart");
        if let Some(password) = &self.who.password {
            config.password(password.expose());
        }
        let said = |error: tokio_postgres::Error| crate::node::chain(&error);
        let (client, connection) = config.connect(NoTls).await.map_err(said)?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        let answer = client.simple_query("SHOW transaction_read_only").await.map_err(said);
        driver.abort();
        let off = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off"));
        let writes = answer?.iter().any(off);
        writes.then_some(()).ok_or_else(|| "it is no primary".to_owned())
    }

    /// PgBouncer remembers what a name was: no longer than its `dns_max_ttl`.
    async fn is_forgotten(&self, host: &str, known: &[Vec<String>]) -> Result<(), String> {
        let entry = known.iter().find(|row| row[0].eq_ignore_ascii_case(host));
        let Some([_, ttl, remembered]) = entry.map(Vec::as_slice) else { return Ok(()) };
        if ttl.parse::<i64>().is_ok_and(|ttl| ttl <= 0) {
            return Ok(());
        }
        let found = lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
        let now: BTreeSet<String> = found.map(|address| address.ip().to_string()).collect();
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
