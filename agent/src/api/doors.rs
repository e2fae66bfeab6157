//! Who calls: this host, a member, or somebody else. And what was said about callers already, so that
//! nobody fills the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hart_ha::brain::host_and_port;
use hart_ha::time::Time;
use hart_names::Names;
use tokio::time::Instant;

use crate::node::view::Handle;

/// How long names may take to resolve.
const RESOLVE: Duration = Duration::from_secs(2);
/// How often the members' names are looked up, so that a call of theirs need not wait for it.
const REFRESH: Duration = Duration::from_secs(30);
/// One line about a caller in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Callers that are remembered.
const CALLERS: usize = 1024;
/// The longest piece of a caller's text in the log, in characters.
const SHOWN: usize = 64;

/// What the doors remember.
#[derive(Debug, Default)]
pub struct Doors {
    said: Mutex<HashMap<IpAddr, Time>>,
    names: Mutex<HashMap<String, Vec<IpAddr>>>,
    looked: Mutex<Option<Time>>,
}

/// The address of this host at which a connection arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here(pub IpAddr);

/// A caller's text as it may stand in a line of the log: escaped, and not long.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

impl Doors {
    /// May a line about this caller be written now? True at most once a minute for each.
    pub(super) fn may_say(&self, caller: Option<IpAddr>, now: Time) -> bool {
        let caller = caller.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&caller).is_some_and(|at| now < *at + QUIET) {
            return false;
        }
        if said.len() >= CALLERS {
            said.retain(|_, at| now < *at + QUIET);
        }
        // Where so many call within a minute, what one more does is no news.
        let room = said.len() < CALLERS;
        if room {
            said.insert(caller, now);
        }
        room
    }

    /// Is it this host, or one that was found to be a member's? Asks nobody.
    pub(super) fn is_near(&self, handle: &Handle, peer: IpAddr, here: Option<IpAddr>) -> bool {
        let peer = peer.to_canonical();
        let here = here.map(|here| here.to_canonical());
        peer.is_loopback() || here == Some(peer) || {
            let hosts = all_hosts(handle);
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.iter().any(|host| match host.parse::<IpAddr>() {
                Ok(address) => address.to_canonical() == peer,
                Err(_) => names.get(host).is_some_and(|found| found.contains(&peer)),
            })
        }
    }

    /// The same; names are looked up where that is needed.
    pub(super) async fn proves_near(
        &self,
        handle: &Handle,
        peer: IpAddr,
        here: Option<IpAddr>,
    ) -> bool {
        if self.is_near(handle, peer, here) {
            return true;
        }
        if !self.may_look(hart_clock::now()) {
            return false;
        }
        let looked = tokio::time::timeout(RESOLVE, self.refresh(handle)).await;
        looked.is_ok() && self.is_near(handle, peer, here)
    }

    /// Strangers must not be able to keep the resolver busy.
    fn may_look(&self, now: Time) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|at| now >= at + RESOLVE);
        if due {
            *looked = Some(now);
        }
        due
    }

    /// Keeps the members' names resolved. A name that does not resolve any more keeps the addresses
    /// that it had: a resolver that fails must not cut the members off from each other.
    pub(super) async fn keep(&self, handle: &Handle) {
        loop {
            self.refresh(handle).await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    async fn refresh(&self, handle: &Handle) {
        let names = all_hosts(handle).into_iter().filter(|host| host.parse::<IpAddr>().is_err());
        for name in names {
            match Names::system().resolve_now(&name, Instant::now() + RESOLVE).await {
                Ok(found) => {
                    let found = found.iter().map(|address| address.ip().to_canonical()).collect();
                    let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                    names.insert(name.clone(), found);
                }
                Err(error) => tracing::debug!(%name, %error, "a member's name does not resolve"),
            }
        }
    }
}

/// Where the members say that they are, and this node by its file.
pub(super) fn all_hosts(handle: &Handle) -> Vec<String> {
    let file = &handle.file;
    let own = [&file.restapi.connect_address.host, &file.postgresql.connect_address.host];
    let mut hosts = member_hosts(handle);
    hosts.extend(own.into_iter().cloned());
    hosts
}

/// Where the members say that they are: by their entries, and the failsafe list.
pub(super) fn member_hosts(handle: &Handle) -> Vec<String> {
    let view = handle.view();
    let mut urls = Vec::new();
    if let Some(snapshot) = &view.snapshot {
        for member in snapshot.members.values() {
            urls.extend([member.value.api_url.clone(), member.value.conn_url.clone()]);
        }
        urls.extend(snapshot.failsafe.iter().flat_map(|list| list.value.values().cloned()));
    }
    if let Some(observation) = &view.observation {
        urls.extend(observation.local.memory.failsafe.values().cloned());
    }
    let mut hosts: Vec<String> =
        urls.iter().filter_map(|url| Some(host_and_port(url)?.0)).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_text_is_cut_and_has_no_line_breaks() {
        assert_eq!(quoted("/restart"), "\"/restart\"");
        assert_eq!(quoted("a\nERROR b\u{1b}[2J"), r#""a\nERROR b\u{1b}[2J""#);
        let long = quoted(&"ä".repeat(9_000));
        assert_eq!(long, format!("\"{}\"…", "ä".repeat(64)));
    }

    #[test]
    fn each_caller_is_told_of_once_a_minute() {
        let doors = Doors::default();
        let caller = |n: u16| Some(IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]));
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert!(doors.may_say(caller(1), at(0)) && doors.may_say(caller(2), at(1)));
        assert!(!doors.may_say(caller(1), at(59)));
        assert!(doors.may_say(caller(1), at(60)));
        for n in 0..2_000 {
            doors.may_say(caller(n), at(61));
        }
        assert!(doors.said.lock().unwrap().len() <= CALLERS);
        assert!(doors.may_say(caller(1), at(200)), "room is made again");
    }
}
