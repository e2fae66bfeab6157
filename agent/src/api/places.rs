//! The REST API's connections, counted by whose they are. A newcomer takes the place of whoever has
//! been idle longest, so that nobody keeps health checks out by holding connections open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::serve::Limits;

/// All places.
pub(super) struct Places {
    limits: Limits,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// Numbers connections, and the order in which they became idle.
    counter: u64,
    open: HashMap<u64, Entry>,
}

struct Entry {
    whose: IpAddr,
    near: bool,
    /// Since when nothing has been asked; `None` while a request is under way.
    idle: Option<u64>,
    asked: bool,
    close: Arc<Notify>,
}

/// The place of one connection, given back when the value is dropped.
pub(super) struct Place {
    number: u64,
    close: Arc<Notify>,
    table: Arc<Mutex<Table>>,
}

/// A request under way on a connection.
pub(super) struct Busy {
    number: u64,
    table: Arc<Mutex<Table>>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, table: Arc::default() }
    }

    /// A place for a connection from `peer`, if need be that of another one, which is closed then.
    /// `None` where all that stand in the way have requests under way.
    pub(super) fn take(&self, peer: IpAddr, near: bool) -> Option<Place> {
        let Limits { connections, kept, per_address, .. } = self.limits;
        let whose = if near { peer.to_canonical() } else { network(peer) };
        let mut table = lock(&self.table);
        if table.count(|entry| entry.whose == whose) >= per_address {
            table.close_idle(|entry| entry.whose == whose)?;
        }
        let far = connections.saturating_sub(kept);
        if !near && table.count(|entry| !entry.near) >= far {
            table.close_idle(|entry| !entry.near)?;
        }
        if table.open.len() >= connections {
            table.close_idle(|entry| !entry.near).or_else(|| table.close_idle(|_| near))?;
        }
        table.counter += 1;
        let (number, close) = (table.counter, Arc::new(Notify::new()));
        let idle = Some(number);
        let entry = Entry { whose, near, idle, asked: false, close: Arc::clone(&close) };
        table.open.insert(number, entry);
        drop(table);
        Some(Place { number, close, table: Arc::clone(&self.table) })
    }
}

impl Table {
    fn count(&self, of_kind: impl Fn(&Entry) -> bool) -> usize {
        self.open.values().filter(|entry| of_kind(entry)).count()
    }

    /// Closes the connection of a kind that has been idle longest; `None` where none is idle.
    fn close_idle(&mut self, of_kind: impl Fn(&Entry) -> bool) -> Option<()> {
        let kind = self.open.iter().filter(|(_, entry)| of_kind(entry));
        let (_, number) = kind.filter_map(|(number, entry)| Some((entry.idle?, *number))).min()?;
        self.open.remove(&number)?.close.notify_one();
        Some(())
    }
}

impl Place {
    /// Ready when another connection gets this place.
    pub(super) async fn taken_away(&self) {
        self.close.notified().await;
    }

    /// Has a request been read from it?
    pub(super) fn has_asked(&self) -> bool {
        lock(&self.table).open.get(&self.number).is_some_and(|entry| entry.asked)
    }

    /// A request has been read; it is under way until the value is dropped.
    fn busy(number: u64, table: &Arc<Mutex<Table>>) -> Busy {
        if let Some(entry) = lock(table).open.get_mut(&number) {
            (entry.idle, entry.asked) = (None, true);
        }
        Busy { number, table: Arc::clone(table) }
    }

    /// Marks requests of this connection.
    pub(super) fn marker(&self) -> impl Fn() -> Busy + use<> {
        let (number, table) = (self.number, Arc::clone(&self.table));
        move || Self::busy(number, &table)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.table).open.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.counter += 1;
        let now = table.counter;
        if let Some(entry) = table.open.get_mut(&self.number) {
            entry.idle = Some(now);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever has one IPv6 address has its whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, kept: usize, per_address: usize) -> Places {
        Places::new(&Limits { connections, kept, per_address, ..Limits::default() })
    }

    fn far(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn is_open(place: &Place) -> bool {
        lock(&place.table).open.contains_key(&place.number)
    }

    #[test]
    fn the_longest_idle_of_an_address_makes_room() {
        let places = places(512, 64, 2);
        let first = places.take(far(1), false).unwrap();
        let second = places.take(far(1), false).unwrap();
        drop(first.marker()());
        let third = places.take(far(1), false).unwrap();
        assert!(is_open(&first) && !is_open(&second) && is_open(&third));
        let (_one, _two) = (first.marker()(), third.marker()());
        assert!(places.take(far(1), false).is_none(), "both have requests under way");
        assert!(places.take(far(2), false).is_some(), "another address is not concerned");
    }

    #[test]
    fn places_are_kept_for_this_host_and_the_members() {
        let places = places(4, 2, 32);
        let strangers: Vec<Place> = (0..2).map(|n| places.take(far(n), false).unwrap()).collect();
        let busy: Vec<Busy> = strangers.iter().map(|place| place.marker()()).collect();
        assert!(places.take(far(9), false).is_none(), "two places are kept");
        let near: Vec<Place> = (10..12).map(|n| places.take(far(n), true).unwrap()).collect();
        drop(busy);
        let third = places.take(far(12), true).unwrap();
        assert!(near.iter().all(is_open) && is_open(&third));
        assert_eq!(strangers.iter().filter(|place| is_open(place)).count(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let places = places(512, 64, 1);
        let first = places.take("2001:db8::1".parse().unwrap(), false).unwrap();
        let _second = places.take("2001:db8::2".parse().unwrap(), false).unwrap();
        assert!(!is_open(&first));
        let other = places.take("2001:db8:0:1::1".parse().unwrap(), false).unwrap();
        let _member = places.take("2001:db8:0:1::2".parse().unwrap(), true).unwrap();
        assert!(is_open(&other));
    }
}
