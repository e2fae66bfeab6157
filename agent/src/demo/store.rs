//! The demo's Consul.

use std::time::Duration;

use hart_consul::Client;
use hart_consul_dev::Server;

use crate::cli::Fail;

/// How long the removal of the keys may take.
const CLEAN: Duration = Duration::from_secs(5);

/// The embedded Consul, or a real one.
pub enum Store {
    /// In this process.
    Embedded(Server),
    /// Somewhere else.
    Real {
        /// `http://host:port`.
        url: String,
    },
}

impl Store {
    /// Starts the embedded one where no address is given.
    ///
    /// # Errors
    /// The address is none, or no port is free.
    pub async fn start(address: Option<&str>) -> Result<Self, Fail> {
        match address {
            Some(address) => Ok(Self::Real { url: crate::cli::parse_dcs_url(address)?.endpoint }),
            None => Ok(Self::Embedded(Server::start("127.0.0.1:0").await?)),
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Embedded(server) => server.url(),
            Self::Real { url } => url.clone(),
        }
    }

    /// The cluster's name: in a Consul that others use, one that nobody else has.
    #[must_use]
    pub fn scope(&self) -> String {
        match self {
            Self::Embedded(_) => "demo".to_owned(),
            Self::Real { .. } => format!("demo-{:08x}", fastrand::u32(..)),
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Embedded(server) => format!("embedded, {}", server.url()),
            Self::Real { url } => url.clone(),
        }
    }

    /// Stops the embedded one; removes the cluster's keys from a real one.
    ///
    /// # Errors
    /// The keys could not be removed.
    pub async fn finish(self, client: &Client, prefix: &str) -> Result<(), Fail> {
        match self {
            Self::Embedded(server) => server.stop().await,
            Self::Real { url } => {
                let removed = client.with_timeout(CLEAN).kv().delete_recurse(prefix).await;
                removed.map_err(|error| {
                    Fail::from(error).hint(format!("remove the keys below {prefix} at {url}"))
                })?;
            }
        }
        Ok(())
    }
}
