//! Sessions: `/v1/session`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::encode;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::{ReadOptions, Response};

/// What happens to the keys that a session has locked, when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// Their locks are released.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

/// A session to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRequest {
    /// For people; need not be unique.
    pub name: String,
    /// Node that it belongs to, whose removal from the catalogue ends it; without it, the node of
    /// the Consul agent that is asked.
    pub node: Option<String>,
    /// Health checks of the node whose failure ends it. None by default, not even Consul's own
    /// default `serfHealth`, so that a restart of the Consul agent does not end it.
    pub checks: Vec<String>,
    /// For how long after its forced end nobody may take its locks (0 to 60 s).
    pub lock_delay: Duration,
    /// What becomes of the locked keys.
    pub behavior: Behavior,
    /// It ends when not renewed for this long, in practice for up to twice as long. Consul allows
    /// `session_ttl_min` (10 s by default) to 24 h. `None`: it does not end by itself.
    pub ttl: Option<Duration>,
}

/// A session as Consul knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// For people.
    pub name: String,
    /// Node that it belongs to.
    pub node: String,
    /// Nanoseconds, as Consul stores it.
    #[serde(rename = "LockDelay")]
    pub lock_delay_ns: i64,
    /// What becomes of the locked keys.
    pub behavior: Behavior,
    /// As Go writes durations, for example `10s`; empty without one.
    #[serde(rename = "TTL")]
    pub ttl: String,
    /// Health checks of the node whose failure ends it.
    #[serde(default, deserialize_with = "encode::null_default")]
    pub node_checks: Vec<String>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    // Both names, and both always there: Consul reads the second from 1.7 on, and adds serfHealth
    // when the field is missing.
    checks: &'a [String],
    node_checks: &'a [String],
    lock_delay: String,
    behavior: Behavior,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

/// Sessions.
#[derive(Clone, Copy, Debug)]
pub struct Sessions<'a>(pub(crate) &'a Client);

impl Sessions<'_> {
    /// `PUT /v1/session/create`: the id. When the outcome is unknown, a session may be left over;
    /// it ends with its TTL.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::SessionTtl`] for a TTL that the servers do not allow.
    pub async fn create(&self, session: &SessionRequest) -> Result<String> {
        let wire = Wire {
            name: &session.name,
            node: session.node.as_deref(),
            checks: &session.checks,
            node_checks: &session.checks,
            lock_delay: encode::duration(session.lock_delay),
            behavior: session.behavior,
            ttl: session.ttl.map(encode::duration),
        };
        let request = Request::put("session.create", "/v1/session/create")
            .rule(rule(session.node.as_deref(), "write"))
            .json(&wire)?;
        Ok(self.0.send(&request).await?.json::<Created>()?.id)
    }

    /// `PUT /v1/session/renew/<id>`: the session, or `None` when it is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn renew(&self, id: &str) -> Result<Option<Session>> {
        let request = Request::put("session.renew", path("renew", id)?)
            .rule(rule(None, "write"))
            .accepts(404);
        let raw = self.0.send(&request).await?;
        if raw.status == 404 {
            let answer = self.0.text(&raw);
            // "Session id '…' not found". Any other 404 is not about the session.
            return if answer.to_lowercase().contains("session id") {
                Ok(None)
            } else {
                Err(Error::Status { call: raw.call, status: 404, answer })
            };
        }
        Ok(raw.json::<Vec<Session>>()?.pop())
    }

    /// `PUT /v1/session/destroy/<id>`: it is gone afterwards, and need not have existed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy(&self, id: &str) -> Result<()> {
        let request =
            Request::put("session.destroy", path("destroy", id)?).rule(rule(None, "write"));
        let raw = self.0.send(&request).await?;
        if raw.json::<bool>()? {
            return Ok(());
        }
        let what = "false, where only true is documented".to_owned();
        Err(Error::Answer { call: raw.call, what, source: None })
    }

    /// `GET /v1/session/info/<id>`: the session, or `None`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self, id: &str, options: &ReadOptions) -> Result<Response<Option<Session>>> {
        let request = Request::get("session.info", path("info", id)?)
            .options(options)
            .rule(rule(None, "read"));
        let raw = self.0.send(&request).await?;
        let session = raw.json::<Option<Vec<Session>>>()?.unwrap_or_default().pop();
        Ok(raw.with(session))
    }

    /// `GET /v1/session/list`: all that the token may read.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, options: &ReadOptions) -> Result<Response<Vec<Session>>> {
        let request = Request::get("session.list", "/v1/session/list")
            .options(options)
            .rule(rule(None, "read"));
        let raw = self.0.send(&request).await?;
        let sessions = raw.json::<Option<_>>()?.unwrap_or_default();
        Ok(raw.with(sessions))
    }
}

fn path(verb: &str, id: &str) -> Result<String> {
    encode::named(&format!("/v1/session/{verb}/"), id, "session id")
}

/// Sessions are guarded by the name of their node.
fn rule(node: Option<&str>, policy: &str) -> String {
    encode::rule("session", node.unwrap_or_default(), policy)
}
