//! The Raft cluster of Consul's servers: `/v1/status`.

use crate::client::Client;
use crate::error::Result;
use crate::request::Request;

/// The Raft cluster.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a>(pub(crate) &'a Client);

impl Status<'_> {
    /// `GET /v1/status/leader`: `address:port` of the leader, or `None` when there is none.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn leader(&self) -> Result<Option<String>> {
        let request = Request::get("status.leader", "/v1/status/leader");
        let leader: String = self.0.send(&request).await?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// `GET /v1/status/peers`: `address:port` of all servers.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn peers(&self) -> Result<Vec<String>> {
        let request = Request::get("status.peers", "/v1/status/peers");
        Ok(self.0.send(&request).await?.json::<Option<_>>()?.unwrap_or_default())
    }
}
