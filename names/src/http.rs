//! Names for HTTP clients.

use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use crate::names::Names;

/// Longer than any call's own deadline, which ends the wait.
const AT_MOST: Duration = Duration::from_secs(60);

/// Resolves the names of an HTTP client.
#[derive(Clone)]
pub struct ForHttp {
    names: Names,
    instead: Option<String>,
}

impl ForHttp {
    /// Each name as it is.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self { names: names.clone(), instead: None }
    }

    /// Every name is this host (a name or an address), as where the URL holds the name of a certificate.
    #[must_use]
    pub fn one_host(names: &Names, host: &str) -> Self {
        Self { names: names.clone(), instead: Some(host.to_owned()) }
    }
}

impl Resolve for ForHttp {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { names, instead } = self.clone();
        Box::pin(async move {
            let host = instead.as_deref().unwrap_or(name.as_str());
            let found = names.resolve(host, Instant::now() + AT_MOST).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
