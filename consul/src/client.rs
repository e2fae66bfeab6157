//! The client: endpoints, token, deadline.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::agent::Agent;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::kv::Kv;
use crate::observer::Observer;
use crate::session::Sessions;
use crate::status::Status;
use crate::tls;
use crate::token::TokenSource;

/// A client for Consul's HTTP API; cheap to clone.
///
/// Each call has one deadline for everything it does. With several endpoints, the one that
/// answered last is tried first; when it certainly did not apply the call, the next one is tried
/// within the same deadline, and reads also move on from timeouts. A write whose outcome is
/// unknown is never repeated: see [`Error::outcome`]. A call whose future is dropped half-way is
/// unknown too.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<ArcSwap<Shared>>,
    pub(crate) timeout: Duration,
    pub(crate) only: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoints: Vec<Endpoint>,
    /// Index of the endpoint that answered last.
    pub(crate) preferred: AtomicUsize,
    pub(crate) token: Arc<TokenSource>,
    pub(crate) datacenter: Option<String>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Client {
    /// Reads the certificates and the token file, and checks the addresses; connects to nothing.
    ///
    /// # Errors
    /// [`Error::Config`], which names the setting.
    pub fn new(config: Config) -> Result<Self> {
        let timeout = config.timeout;
        let shared = Arc::new(ArcSwap::from_pointee(Shared::new(config)?));
        Ok(Self { shared, timeout, only: None })
    }

    /// From the next call on, this client and its clones have these endpoints, certificates and token.
    /// Deadlines stay as they are.
    ///
    /// # Errors
    /// As [`Client::new`]; then nothing has changed.
    pub fn renew(&self, config: Config) -> Result<()> {
        self.shared.store(Arc::new(Shared::new(config)?));
        Ok(())
    }

    /// What a call begins with is what it goes on with.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.load_full()
    }

    /// The same client with another deadline per call. A blocking query has its wait and a
    /// sixteenth of it on top.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, bound to one endpoint (by its place in [`Config::endpoints`]): services
    /// and checks belong to the agent that they were registered with.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are not as many endpoints.
    pub fn only(&self, endpoint: usize) -> Result<Self> {
        let count = self.shared().endpoints.len();
        if endpoint >= count {
            let what = format!("there is no endpoint {endpoint}, only {count} of them");
            return Err(Error::Invalid { what });
        }
        Ok(Self { only: Some(endpoint), ..self.clone() })
    }

    /// The deadline of one call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Keys and values (`/v1/kv`).
    #[must_use]
    pub fn kv(&self) -> Kv<'_> {
        Kv(self)
    }

    /// Sessions (`/v1/session`).
    #[must_use]
    pub fn session(&self) -> Sessions<'_> {
        Sessions(self)
    }

    /// Services and checks of the Consul agent behind the endpoint (`/v1/agent`).
    #[must_use]
    pub fn agent(&self) -> Agent<'_> {
        Agent(self)
    }

    /// Service instances with their health (`/v1/health`).
    #[must_use]
    pub fn health(&self) -> Health<'_> {
        Health(self)
    }

    /// Nodes and services of the datacentre (`/v1/catalog`).
    #[must_use]
    pub fn catalog(&self) -> Catalog<'_> {
        Catalog(self)
    }

    /// The Raft cluster (`/v1/status`).
    #[must_use]
    pub fn status(&self) -> Status<'_> {
        Status(self)
    }
}

impl Shared {
    fn new(config: Config) -> Result<Self> {
        tls::install_provider();
        if config.endpoints.is_empty() {
            return Err(Error::config("there is no endpoint; give host:port of a Consul agent"));
        }
        if config.timeout.is_zero() || config.connect_timeout.is_zero() {
            return Err(Error::config("a timeout of 0 leaves no time for any call"));
        }
        let endpoints = config.endpoints.iter().map(|text| Endpoint::new(text, &config));
        Ok(Self {
            endpoints: endpoints.collect::<Result<_>>()?,
            preferred: AtomicUsize::new(0),
            token: TokenSource::new(&config.token)?,
            datacenter: config.datacenter,
            observer: config.observer,
        })
    }
}
