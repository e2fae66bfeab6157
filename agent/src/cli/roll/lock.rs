//! One at a time: the key `roll` in Consul, locked by a session of the one who is at it. The lock ends with
//! that process; what was begun is kept for whoever goes on.

use std::time::Duration;

use hart_consul::{Behavior, Client, PutOptions, ReadOptions, SessionRequest};
use tokio::task::JoinHandle;

use super::note::{Note, Rolling};
use crate::cli::fail::Fail;

/// The least that Consul allows: for up to twice as long after the end of a process that was killed nobody
/// else can begin.
const TTL: Duration = Duration::from_secs(10);
/// How often the session is renewed.
const RENEW: Duration = Duration::from_secs(3);

/// The lock, as long as it is kept.
pub struct Lock {
    consul: Client,
    key: String,
    session: String,
    renewing: JoinHandle<()>,
}

impl Lock {
    /// Who is at it, or what an earlier one has left.
    ///
    /// # Errors
    /// Consul cannot be read.
    pub async fn look(consul: &Client, key: &str) -> Result<Option<Rolling>, Fail> {
        let found = consul.kv().get(key, &ReadOptions::consistent()).await?.value;
        Ok(found.as_ref().map(Rolling::read))
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
        match lock.put(note).await {
            Ok(true) => Ok(lock),
            Ok(false) => {
                let found = Self::look(consul, key).await?;
                lock.release().await;
                Err(taken(found.map(|found| found.note).unwrap_or_default()))
            }
            Err(error) => {
                lock.release().await;
                Err(error.into())
            }
        }
    }

    /// Taken, or still ours: with what is being done. Consul writes it for the holder of the lock alone.
    async fn put(&self, note: &Note) -> Result<bool, hart_consul::Error> {
        // Texts only: it can always be written.
        let value = serde_json::to_vec(note).unwrap_or_default();
        self.consul.kv().put(&self.key, value, &PutOptions::acquire(self.session.clone())).await
    }

    /// Says what is being done. To be said before anything is begun: it finds out whether it is still this
    /// process's turn.
    ///
    /// # Errors
    /// It is not, or nobody knows.
    pub async fn tell(&self, note: &Note) -> Result<(), String> {
        match self.put(note).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} in Consul is not locked by this run any more", self.key)),
            Err(error) => Err(hart_types::Chain(&error).to_string()),
        }
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
    let Note { by, since, work, at, .. } = by;
    let by = if by.is_empty() { "somebody".to_owned() } else { by };
    let at = if at.is_empty() { at } else { format!("; {at}") };
    Fail::failed(format!(
        "a rolling restart is under way: {by}, since {since} (hart roll {work}){at}"
    ))
    .hint("wait until it has ended; where its process has died, that is seen within 20 s")
}
