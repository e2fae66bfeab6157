//! A look at each HTTP exchange, for metrics.

use std::fmt;
use std::time::Duration;

/// One HTTP exchange with one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// What was called, such as `kv.get`: few values, fit for a label.
    pub name: &'static str,
    /// The endpoint as configured.
    pub endpoint: &'a str,
    /// True for a blocking query, whose time is mostly waiting.
    pub blocking: bool,
    /// Time from sending (connecting included) to the end of the answer or the failure.
    pub elapsed: Duration,
    /// HTTP status, or `None` when no complete answer came.
    pub status: Option<u16>,
}

/// Receives each exchange; must not block.
pub trait Observer: Send + Sync {
    /// Called once per exchange, also for failed ones.
    fn exchange(&self, exchange: &Exchange<'_>);
}

impl<F: Fn(&Exchange<'_>) + Send + Sync> Observer for F {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self(exchange);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
