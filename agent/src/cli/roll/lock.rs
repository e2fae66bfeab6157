//! One at a time: the key `roll` in Consul, locked by a session of the one who is at it. The lock ends with
//! that process; what was begun is kept for whoever goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_consul::{Behavior, Client, PutOptions, ReadOptions, SessionRequest};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::cli::fail::Fail;

/// The least that Consul allows: for up to twice as long after the end of a process that was killed nobody
/// else can begin.
const TTL: Duration = Duration::from_secs(10);
/// How often the session is renewed.
const RENEW: Duration = Duration::from_secs(3);

/// What is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Who is at it: user, host and process.
    pub by: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// What it is for: the options of `hart roll`.
    pub work: String,
    /// When each member's PostgreSQL had been started before it began: who has another time is done.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub started: BTreeMap<String, String>,
}

/// The lock, as long as it is kept.
pub struct Lock {
    consul: Client,
    key: String,
    session: String,
    renewing: JoinHandle<()>,
}

impl Lock {
    /// What an earlier one has left, and whether it is still at it.
    ///
    /// # Errors
    /// Consul cannot be read.
    pub async fn look(consul: &Client, key: &str) -> Result<Option<(Note, bool)>, Fail> {
        let found = consul.kv().get(key, &ReadOptions::consistent()).await?.value;
        Ok(found.map(|pair| {
            let note = serde_json::from_slice(&pair.value).unwrap_or_default();
            (note, pair.session.is_some())
        }))
    }

    /// Takes it.
    ///
    /// # Errors
    /// Somebody else has it, who is named; or Consul refuses.
    pub async fn take(consul: &Client, key: &str, note: &Note) -> Result<Self, Fail> {
        let request = SessionRequest {
            name: "hart roll".to_owned(),
            lock_delay: Duration::from_millis(1),
            behavior: Behavior::Release,
            ttl: Some(TTL),
            ..SessionRequest::default()
        };
        let session = consul.session().create(&request).await?;
        let renewing = tokio::spawn(renew(consul.clone(), session.clone()));
        let lock = Self { consul: consul.clone(), key: key.to_owned(), session, renewing };
        let value = serde_json::to_vec(note)
            .map_err(|error| Fail::from_error("cannot write what is begun", &error))?;
        let options = PutOptions::acquire(lock.session.clone());
        match consul.kv().put(key, value, &options).await {
            Ok(true) => Ok(lock),
            Ok(false) => {
                let found = Self::look(consul, key).await?;
                lock.release().await;
                Err(taken(found.map(|(note, _)| note).unwrap_or_default()))
            }
            Err(error) => {
                lock.release().await;
                Err(error.into())
            }
        }
    }

    /// Is it still this process's? To be asked before anything is begun.
    ///
    /// # Errors
    /// It is not, or nobody knows.
    pub async fn is_ours(&self) -> Result<(), String> {
        let read = self.consul.kv().get(&self.key, &ReadOptions::consistent()).await;
        let pair = read.map_err(|error| hart_types::Chain(&error).to_string())?.value;
        if pair.and_then(|pair| pair.session).as_ref() == Some(&self.session) {
            return Ok(());
        }
        Err(format!("{} in Consul is not locked by this run any more", self.key))
    }

    /// Everything is done: nothing is left.
    pub async fn done(self) {
        // One that is left says "all", of servers that have been started since: nothing is left to do.
        let _ = self.consul.kv().delete(&self.key, None).await;
        self.release().await;
    }

    /// Somebody else may go on.
    pub async fn release(self) {
        self.renewing.abort();
        let _ = self.consul.session().destroy(&self.session).await;
    }
}

/// A renewal that fails is tried again; whether the lock is still there is asked before each step.
async fn renew(consul: Client, session: String) {
    loop {
        tokio::time::sleep(RENEW).await;
        let _ = consul.session().renew(&session).await;
    }
}

fn taken(by: Note) -> Fail {
    let Note { by, since, work, .. } = by;
    let by = if by.is_empty() { "somebody".to_owned() } else { by };
    Fail::failed(format!("a rolling restart is under way: {by}, since {since} (hart roll {work})"))
        .hint("wait until it has ended; where its process has died, that is seen within 20 s")
}
