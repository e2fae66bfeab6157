//! Sessions: what holds a lock, and what ends with its TTL, its checks or its node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hart_ha::time::Time;

use super::table::lower;
use super::{Error, Model};
use crate::duration;

/// Longest lock delay that Consul honours.
const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);
/// Bounds of a session TTL, nanoseconds.
const TTL_BOUNDS: std::ops::RangeInclusive<i64> = 10_000_000_000..=86_400_000_000_000;

/// What happens to a session's keys when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behavior {
    /// The keys stay, without a holder.
    #[default]
    Release,
    /// The keys go.
    Delete,
}

impl Behavior {
    /// The name of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Delete => "delete",
        }
    }

    /// Reads the name of the API; empty is `release`.
    ///
    /// # Errors
    /// [`Error::BadBehavior`] for any other name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "" | "release" => Ok(Self::Release),
            "delete" => Ok(Self::Delete),
            other => Err(Error::BadBehavior(other.to_owned())),
        }
    }
}

/// What `PUT /v1/session/create` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// A name for people.
    pub name: String,
    /// The node that it belongs to; must be in the catalog.
    pub node: String,
    /// Checks of that node which end the session when critical.
    pub checks: Vec<String>,
    /// More of them, from the old field `Checks`.
    pub legacy_checks: Vec<String>,
    /// More of them, from the field `ServiceChecks`.
    pub service_checks: Vec<String>,
    /// How long the lock cannot be taken after the session was invalidated; nanoseconds, as Go
    /// holds it (a negative value counts as 0, more than a minute as a minute).
    pub lock_delay: i64,
    /// What happens to its keys.
    pub behavior: Behavior,
    /// TTL as a Go duration, 10 s to 24 h; empty for none.
    pub ttl: String,
}

impl SessionSpec {
    /// All checks that end it.
    pub fn all_checks(&self) -> impl Iterator<Item = &String> {
        self.legacy_checks.iter().chain(&self.checks).chain(&self.service_checks)
    }

    /// A session as the API makes it from an empty body, except that it hangs on no check.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            name: String::new(),
            node: node.to_owned(),
            checks: Vec::new(),
            legacy_checks: Vec::new(),
            service_checks: Vec::new(),
            lock_delay: 15_000_000_000,
            behavior: Behavior::Release,
            ttl: String::new(),
        }
    }
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its UUID, lower case.
    pub id: Arc<str>,
    /// What it was created with.
    pub spec: SessionSpec,
    /// Index of its creation.
    pub create_index: u64,
    /// When it ends unless renewed; `None` without a TTL.
    pub expires: Option<Time>,
}

/// All live sessions.
#[derive(Debug, Default, Clone)]
pub struct Sessions {
    all: BTreeMap<Arc<str>, Session>,
    due: BTreeSet<(Time, Arc<str>)>,
    pub(super) index: u64,
}

impl Sessions {
    /// The session with this id.
    ///
    /// # Errors
    /// [`Error::BadSessionId`] when the id is no UUID.
    pub fn get(&self, id: &str) -> Result<Option<&Session>, Error> {
        match self.all.get(id) {
            Some(found) => Ok(Some(found)),
            None => check_uuid(id).map(|()| self.all.get(&lower(id))),
        }
    }

    /// All, in order of their ids (`GET /v1/session/list`).
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.all.values()
    }

    /// Index of the whole table; also that of one session, or of none.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    pub(super) fn require(&self, id: &str) -> Result<(), Error> {
        if id.is_empty() {
            return Err(Error::MissingSession);
        }
        self.get(id)?.map(|_| ()).ok_or_else(|| Error::InvalidSession(id.to_owned()))
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn schedule(&mut self, id: &str, expires: Option<Time>) {
        if let Some(session) = self.all.get_mut(id) {
            if let Some(before) = session.expires {
                self.due.remove(&(before, session.id.clone()));
            }
            session.expires = expires;
            self.due.extend(expires.map(|at| (at, session.id.clone())));
        }
    }

    fn remove(&mut self, id: &str) -> Option<Session> {
        let session = self.all.remove(id)?;
        if let Some(at) = session.expires {
            self.due.remove(&(at, session.id.clone()));
        }
        Some(session)
    }
}

impl Model {
    /// Creates a session with an id that the caller chose (a new UUID).
    ///
    /// # Errors
    /// As the real Consul: unknown node or check, a bad TTL. And an id that is no UUID or taken.
    pub fn session_create(&mut self, now: Time, id: &str, spec: SessionSpec) -> Result<(), Error> {
        self.advance(now);
        if spec.node.is_empty() {
            return Err(Error::SessionWithoutNode);
        }
        let ttl = ttl(&spec.ttl)?;
        let index = self.next_index();
        self.catalog.vet_session(&spec)?;
        if self.sessions.get(id)?.is_some() {
            return Err(Error::SessionExists(id.to_owned()));
        }
        let id = lower(id);
        let session = Session { id: id.clone(), spec, create_index: index, expires: None };
        self.sessions.all.insert(id.clone(), session);
        self.sessions.index = index;
        let expires = ttl.map(|ttl| now + ttl * self.settings.ttl_multiplier);
        self.sessions.schedule(&id, expires);
        Ok(())
    }

    /// Renews the TTL; `None` when the session is gone (the API answers 404).
    ///
    /// # Errors
    /// [`Error::BadSessionId`] when the id is no UUID.
    pub fn session_renew(&mut self, now: Time, id: &str) -> Result<Option<&Session>, Error> {
        self.advance(now);
        let Some(session) = self.sessions.get(id)? else { return Ok(None) };
        let id = session.id.clone();
        let expires = ttl(&session.spec.ttl)?.map(|ttl| now + ttl * self.settings.ttl_multiplier);
        self.sessions.schedule(&id, expires);
        self.sessions.get(&id)
    }

    /// Ends a session; it is no error when it is already gone.
    ///
    /// # Errors
    /// [`Error::BadSessionId`] when the id is no UUID.
    pub fn session_destroy(&mut self, now: Time, id: &str) -> Result<(), Error> {
        self.advance(now);
        let index = self.next_index();
        let id = self.sessions.get(id)?.map(|session| session.id.clone());
        if let Some(id) = id {
            self.end_session(now, index, &id);
        }
        Ok(())
    }

    /// Ends the sessions whose time is over.
    pub(super) fn expire_sessions(&mut self, now: Time) {
        while let Some((at, id)) = self.sessions.due.first().cloned()
            && at <= now
        {
            self.sessions.due.pop_first();
            let index = self.next_index();
            // The delay counts from when the session was due, however late this is called.
            self.end_session(at, index, &id);
        }
    }

    /// Ends the sessions of a node that hang on `check`, or all of them.
    pub(super) fn end_sessions_of(
        &mut self,
        now: Time,
        index: u64,
        node: &str,
        check: Option<&str>,
    ) {
        let hit = |s: &&Session| {
            s.spec.node == node && check.is_none_or(|c| s.spec.all_checks().any(|own| own == c))
        };
        let ids: Vec<Arc<str>> = self.sessions.iter().filter(hit).map(|s| s.id.clone()).collect();
        for id in ids {
            self.end_session(now, index, &id);
        }
    }

    fn end_session(&mut self, now: Time, index: u64, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.sessions.index = index;
        let delay =
            u64::try_from(session.spec.lock_delay).map_or(Duration::ZERO, Duration::from_nanos);
        let delete = session.spec.behavior == Behavior::Delete;
        self.kv.invalidate(now, index, id, delete, delay.min(MAX_LOCK_DELAY));
    }
}

/// Reads a TTL: empty and zero are none.
fn ttl(text: &str) -> Result<Option<Duration>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let nanos = duration::parse(text).map_err(|e| Error::UnreadableTtl(text.to_owned(), e))?;
    if nanos == 0 {
        return Ok(None);
    }
    if !TTL_BOUNDS.contains(&nanos) {
        return Err(Error::TtlOutOfBounds(nanos));
    }
    Ok(Some(Duration::from_nanos(nanos.unsigned_abs())))
}

fn check_uuid(id: &str) -> Result<(), Error> {
    if id.len() != 36 {
        return Err(Error::BadSessionId("UUID must be 36 characters".to_owned()));
    }
    match id.chars().find(|c| !c.is_ascii_hexdigit() && *c != '-') {
        None => Ok(()),
        Some(c) => Err(Error::BadSessionId(format!(
            "Invalid UUID: encoding/hex: invalid byte: U+{:04X} {c:?}",
            u32::from(c)
        ))),
    }
}
