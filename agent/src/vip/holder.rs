//! One address: asked for, put on, announced, prolonged, defended, taken off.

use std::time::Duration;

use hart_config::{VipAddress, VipConflict};
use hart_ha::time::Time;

use super::interface::Interface;
use super::neighbours::Neighbours;
use super::netlink::Netlink;
use super::packets::{self, Mac};

/// How long neighbours have to say that the address is theirs. On a wire they need less than a
/// millisecond; this is part of every failover.
pub const LISTEN: Duration = Duration::from_millis(100);
/// After somebody else had it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// When the address is announced, counted from when it was put on: a switch may have lost the first.
const ANNOUNCE: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];
/// Somebody else's claim is answered at most this often (RFC 5227, section 2.4).
const DEFEND: Duration = Duration::from_secs(10);

/// What a holder needs to act.
pub struct Means<'a> {
    /// The kernel.
    pub netlink: &'a mut Netlink,
    /// The wire.
    pub neighbours: &'a mut Neighbours,
    /// Where.
    pub interface: Interface,
    /// What to do where another host has the address.
    pub conflict: VipConflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    /// Asked at this time.
    Asked(Time),
    /// Somebody answered; asked again at this time.
    Taken(Mac, Time),
    /// Put on at this time, announced so many times.
    On(Time, usize),
}

/// One address.
#[derive(Debug)]
pub struct Holder {
    address: VipAddress,
    state: State,
    /// Until when the kernel has it, at the most.
    until: Time,
    defended: Option<Time>,
    /// What was said last, which is not said again.
    said: String,
}

impl Holder {
    /// It is not here.
    pub fn new(address: VipAddress) -> Self {
        let (state, until) = (State::Off, Time::ZERO);
        Self { address, state, until, defended: None, said: String::new() }
    }

    /// Which one.
    pub fn address(&self) -> VipAddress {
        self.address
    }

    /// Until when it may be on the interface; zero once it is surely off.
    pub fn until(&self) -> Time {
        self.until
    }

    /// When to come back at the latest.
    pub fn wake(&self, now: Time) -> Option<Duration> {
        let at = match self.state {
            State::Off => return None,
            State::Asked(at) => at + LISTEN,
            State::Taken(_, at) => at,
            State::On(since, told) => since + *ANNOUNCE.get(told)?,
        };
        Some(now.until(at))
    }

    /// The address is to be here until `due`.
    pub fn want(&mut self, due: Time, now: Time, means: &mut Means<'_>) {
        match self.state {
            State::Off => self.begin(due, now, means),
            State::Asked(at) if now >= at + LISTEN => self.put_on(due, now, means),
            State::Taken(_, at) if now >= at => self.ask(now, means),
            State::Asked(_) | State::Taken(..) => {}
            State::On(since, told) => {
                self.prolong(due, now, means);
                if ANNOUNCE.get(told).is_some_and(|after| now >= since + *after) {
                    means.neighbours.announce(&means.interface, self.address.ip);
                    self.state = State::On(since, told + 1);
                }
            }
        }
    }

    /// An address that is here already, by an agent that was restarted, is only prolonged.
    fn begin(&mut self, due: Time, now: Time, means: &mut Means<'_>) {
        let present = match means.netlink.list() {
            Ok(all) => all.into_iter().find(|present| present.ip == self.address.ip),
            Err(error) => {
                return self.complain(&format!("the addresses cannot be listed: {error}"));
            }
        };
        match present {
            Some(present) if present.permanent => self.complain(
                "it is on an interface of this machine for good, put there by something else: \
                 remove it there, or choose another address",
            ),
            Some(present) if present.index == means.interface.index => {
                self.put_on(due, now, means);
            }
            _ => self.ask(now, means),
        }
    }

    fn ask(&mut self, now: Time, means: &mut Means<'_>) {
        if means.neighbours.missing(self.address.ip.is_ipv4()).is_some() {
            // Nobody can be asked; that was said at the start.
            self.state = State::Asked(now - LISTEN);
            return;
        }
        means.neighbours.ask(&means.interface, self.address.ip);
        self.state = State::Asked(now);
    }

    fn put_on(&mut self, due: Time, now: Time, means: &mut Means<'_>) {
        if !self.put(due, now, means) {
            self.state = State::Off;
            return;
        }
        tracing::info!("{} was put on", self.address);
        self.said.clear();
        means.neighbours.announce(&means.interface, self.address.ip);
        self.state = State::On(now, 1);
    }

    fn prolong(&mut self, due: Time, now: Time, means: &mut Means<'_>) {
        // Not every look is worth a call.
        let whole = |until: Time| now.until(until).as_secs();
        if (due > self.until || whole(self.until) < 1) && !self.put(due, now, means) {
            self.state = State::Off;
        }
    }

    /// True: the kernel has it for what is left.
    fn put(&mut self, due: Time, now: Time, means: &mut Means<'_>) -> bool {
        let left = now.until(due);
        if left < Duration::from_secs(1) {
            // The kernel counts whole seconds: let it run out.
            return now < self.until;
        }
        match means.netlink.put(means.interface.index, self.address, left) {
            Ok(()) => {
                self.until = due;
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.complain(
                    "this process may not change addresses: start the agent as root with --user, \
                     or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
                );
                false
            }
            Err(error) => {
                self.complain(&format!("it cannot be put on the interface: {error}"));
                false
            }
        }
    }

    /// The address is not to be here.
    pub fn give_up(&mut self, now: Time, netlink: &mut Netlink, index: u32) {
        let was_on = matches!(self.state, State::On(..));
        self.state = State::Off;
        self.said.clear();
        if !was_on && self.until == Time::ZERO {
            return;
        }
        match netlink.remove(index, self.address) {
            Ok(()) => {
                tracing::info!("{} was taken off", self.address);
                self.until = Time::ZERO;
            }
            Err(_) if now >= self.until => self.until = Time::ZERO,
            Err(error) => self.complain(&format!(
                "it cannot be taken off, the kernel removes it by itself: {error}"
            )),
        }
    }

    /// Another host said that the address is his.
    pub fn claimed(&mut self, by: Mac, now: Time, means: &mut Means<'_>) {
        let mac = packets::show(by);
        match self.state {
            State::Asked(_) if means.conflict == VipConflict::Refuse => {
                self.complain(&format!(
                    "{mac} has it already: it is not put on while that host answers for it"
                ));
                self.state = State::Taken(by, now + ASK_AGAIN);
            }
            State::Asked(_) => {
                self.complain(&format!("{mac} has it, too; it is taken all the same"))
            }
            State::On(..) if self.defended.is_none_or(|at| now >= at + DEFEND) => {
                tracing::warn!(
                    "{}: {mac} says that it has this address, too; it is announced again",
                    self.address
                );
                self.defended = Some(now);
                means.neighbours.announce(&means.interface, self.address.ip);
            }
            State::Off | State::Taken(..) | State::On(..) => {}
        }
    }

    /// Says it once.
    pub fn complain(&mut self, what: &str) {
        if self.said != what {
            tracing::warn!("{}: {what}", self.address);
            what.clone_into(&mut self.said);
        }
    }
}
