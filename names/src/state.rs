//! What is known of names, and which look-ups are under way. Nothing here waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::NoAddress;
use crate::lookup::{Failed, GLIBC_WAITS};

/// More names than any cluster has; beyond that the one longest not asked for is forgotten.
const NAMES: usize = 512;

/// Addresses of a name; the port is 0.
pub(crate) type Addresses = Arc<[SocketAddr]>;

/// One name.
pub(crate) struct Entry {
    /// The last answer that was one.
    pub known: Option<Addresses>,
    /// Since when a look-up is under way, or waits for a thread.
    pub asked: Option<Instant>,
    /// The resolver has failed since the last answer.
    pub silent: bool,
    /// What the last look-up came to.
    pub last: Result<(), NoAddress>,
    /// Look-ups that have ended.
    pub ended: watch::Sender<u64>,
    used: Instant,
    said: bool,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            known: None,
            asked: None,
            silent: false,
            last: Ok(()),
            ended: watch::Sender::new(0),
            used: now,
            said: false,
        }
    }
}

/// All names.
#[derive(Default)]
pub(crate) struct State {
    names: HashMap<String, Entry>,
    pub queue: VecDeque<String>,
    pub threads: usize,
}

impl State {
    /// The entry, with a look-up under way; true where that one is new and waits in the queue.
    pub fn ask(&mut self, host: &str, now: Instant) -> (&mut Entry, bool) {
        if self.names.len() >= NAMES && !self.names.contains_key(host) {
            self.forget_one();
        }
        let entry = self.names.entry(host.to_owned()).or_insert_with(|| Entry::new(now));
        entry.used = now;
        let new = entry.asked.is_none();
        if new {
            entry.asked = Some(now);
            self.queue.push_back(host.to_owned());
        }
        (entry, new)
    }

    /// Whether somebody's look-up has been under way for so long that nobody else need find that out by waiting.
    /// There is one resolver for all names.
    pub fn is_silent(&self, now: Instant, patience: Duration) -> bool {
        let late = |since: Instant| now.saturating_duration_since(since) >= patience;
        self.names.values().filter_map(|entry| entry.asked).any(late)
    }

    pub fn entry(&mut self, host: &str) -> Option<&mut Entry> {
        self.names.get_mut(host)
    }

    pub fn known(&self, host: &str) -> Option<Addresses> {
        self.names.get(host)?.known.clone()
    }

    /// What was known in another run, where nothing is known yet.
    pub fn remember(&mut self, host: String, addresses: Addresses, now: Instant) {
        if self.names.len() < NAMES {
            let entry = self.names.entry(host).or_insert_with(|| Entry::new(now));
            entry.known.get_or_insert(addresses);
        }
    }

    /// Takes the end of a look-up in; true when what is known has changed.
    pub fn end(
        &mut self,
        host: &str,
        found: Result<Vec<SocketAddr>, Failed>,
        took: Duration,
    ) -> bool {
        let Some(entry) = self.names.get_mut(host) else { return false };
        entry.asked = None;
        let changed = match found {
            Ok(addresses) => entry.answered(host, addresses, took),
            Err(failed) => entry.failed(host, failed),
        };
        entry.ended.send_modify(|count| *count += 1);
        changed
    }

    pub fn all_known(&self) -> BTreeMap<String, Addresses> {
        let known = |(host, entry): (&String, &Entry)| Some((host.clone(), entry.known.clone()?));
        self.names.iter().filter_map(known).collect()
    }

    fn forget_one(&mut self) {
        let idle = self.names.iter().filter(|(_, entry)| entry.asked.is_none());
        let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(host, _)| host.clone());
        oldest.map(|host| self.names.remove(&host));
    }
}

impl Entry {
    /// The same addresses in another order are no news: what is written from them shall not change with every
    /// turn of a round robin. Nor does a late answer take a part of them back: glibc leaves out what a silent server
    /// was to say.
    fn answered(&mut self, host: &str, addresses: Vec<SocketAddr>, took: Duration) -> bool {
        (self.silent, self.last) = (false, Ok(()));
        if std::mem::take(&mut self.said) {
            tracing::info!("the resolver answers again for the name {host}");
        }
        let known = self.known.as_deref().unwrap_or_default();
        let none_new = addresses.iter().all(|address| known.contains(address));
        if none_new && (addresses.len() == known.len() || took >= GLIBC_WAITS) {
            return false;
        }
        if let Some(known) = &self.known {
            tracing::info!("the name {host} is {} now, and was {}", text(&addresses), text(known));
        }
        self.known = Some(addresses.into());
        true
    }

    fn failed(&mut self, host: &str, failed: Failed) -> bool {
        let host = host.to_owned();
        match failed {
            Failed::NoSuchName => {
                self.silent = false;
                let was = self.known.take();
                if let Some(was) = &was {
                    tracing::warn!("the name {host} does not exist any more; it was {}", text(was));
                }
                self.last = Err(NoAddress::NoSuchName { host });
                was.is_some()
            }
            Failed::Otherwise(why) => {
                self.silent = true;
                if let Some(known) = self.known.as_ref().filter(|_| !self.said) {
                    let known = text(known);
                    tracing::warn!(
                        "the name {host} does not resolve ({why}): it is taken for {known}, as before"
                    );
                    self.said = true;
                }
                self.last = Err(NoAddress::Failed { host, why });
                false
            }
        }
    }
}

fn text(addresses: &[SocketAddr]) -> String {
    let all: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_takes_no_part_of_what_is_known_back() {
        let (mut state, now) = (State::default(), Instant::now());
        let at =
            |all: &[&str]| all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        let (four, six) = ("198.51.100.1", "2001:db8::1");
        let mut answer = |found: &[&str], took| {
            state.ask("db1", now);
            let changed = state.end("db1", Ok(at(found)), took);
            (changed, state.known("db1").unwrap().len())
        };
        assert_eq!(answer(&[four, six], Duration::ZERO), (true, 2));
        assert_eq!(answer(&[four], GLIBC_WAITS), (false, 2));
        assert_eq!(answer(&[four], Duration::ZERO), (true, 1));
        assert_eq!(answer(&[six], GLIBC_WAITS), (true, 1));
    }
}
