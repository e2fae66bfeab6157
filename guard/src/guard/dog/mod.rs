//! The kernel's watchdog: it resets the machine when the guard cannot fence, because the guard
//! itself is frozen, starved or dead, or because PostgreSQL's processes do not die.
//!
//! # When it must strike
//! The holder of a lease counts from the moment before sending: its deadline is
//! `D = sent + ttl − margin`, and the fence that begins at `D` must be over at `D + margin`. Another
//! node takes over no earlier than `sent + ttl + margin = D + 2·margin`. So the machine has to be
//! reset by some `R` with `D < R ≤ D + margin`: after the guard has had its chance, for a reset is
//! dearer than a fence, and early enough to leave at least one margin for what is inexact in the
//! device. [`reset_by`] chooses it: `D + margin`, or earlier where `safety_margin` asks for more
//! than that between `R` and `D + 2·margin`, but not before `D + ⅔·margin`.
//!
//! A watchdog with the timeout `W` resets the machine `W` after its last feed. **So it is fed only
//! while `now + W ≤ R`.** This is checked with the clock read right before each feed. Whatever
//! happens to the guard after a feed, the reset comes by `R`. The clock is `CLOCK_BOOTTIME`; a
//! machine that sleeps writes nothing, and looks at its deadline first when it wakes up.
//!
//! The guard knows deadlines, not the ttl, and so not the margin. But the deadline was
//! `lead = D − now` ahead when it came, and `now ≥ sent`, hence `lead ≤ ttl − margin`. With
//! `margin = max(ttl/10, 300 ms)` it follows that `margin ≥ max(lead/9, 300 ms)`: the guard takes
//! that, and errs to the safe side where a renewal was slow. A property test compares it with
//! `hart_ha::lease`.
//!
//! # When it must not strike
//! While the lease is renewed, `R` moves ahead of the clock. It is fed every `W/4`,
//! and once more at the last moment that allows it (`R − W`), so that a lease that runs out leaves
//! the guard its whole time: the reset comes by `R` and not before, **whatever `W` is**. Fenced in time,
//! PostgreSQL is gone and the watchdog is stopped.
//!
//! So `W` may be chosen by what else is wanted. It is Patroni's, `ttl − safety_margin` (5 s), in whole
//! seconds, and half of the lead at least: the longer it is, the longer a guard that got no processor may
//! be without one before the machine is reset in the middle of a lease; the shorter, the longer a
//! renewal's answer may take and still be followed by a feed (`R − W`, 5 s). An answer that takes longer
//! has a shorter timeout set at once; what three renewals in a row allow, and so a ttl that was changed,
//! is followed as well.
//!
//! A device that can do neither that nor `W ≤ ⅔·lead` does not fit the lease and is not used: said plainly,
//! or, where it is required, PostgreSQL is not started as primary and not promoted.
//!
//! # When it runs
//! Opened when PostgreSQL is about to become writable (started as primary, or promoted), stopped
//! by the magic close when its last process is gone. There is no other end: not by an error path,
//! not by a destructor. A guard that dies leaves it running.
//!
//! Some drivers (IPMI) may be slow in a call. It is made after the deadline and the dead have been
//! looked at, and a guard that hangs in it is one that does not feed.

mod device;
mod timing;

use std::time::Duration;

use hart_ha::time::Time;

pub(super) use device::{Device, File};
use timing::{fits, may_feed, next_feed, reset_by, wanted_timeout};

use crate::types::Armed;
use crate::watchdog::Watchdog;

/// See the module's text.
pub(super) struct Dog<D> {
    device: Option<D>,
    required: bool,
    safety: Option<Duration>,
    state: Watchdog,
    lease: Option<Armed>,
    reset_by: Time,
    last_feed: Time,
    /// The timeout that was asked for last.
    asked: u32,
    /// Of the last renewals: how far their deadlines were ahead when they came.
    leads: [Duration; RENEWALS],
}

/// A timeout is changed when so many renewals in a row ask for another one: one may have been slow.
const RENEWALS: usize = 3;

impl<D: Device> Dog<D> {
    /// Nothing is opened yet. `device`: none is configured.
    pub fn new(device: Option<D>, required: bool, safety: Option<Duration>) -> Self {
        let state = if device.is_some() { Watchdog::Idle } else { Watchdog::Off };
        let (reset_by, last_feed) = (Time::ZERO, Time::ZERO);
        let leads = [Duration::ZERO; RENEWALS];
        Self { device, required, safety, state, lease: None, reset_by, last_feed, asked: 0, leads }
    }

    /// What it does.
    pub const fn state(&self) -> Watchdog {
        self.state
    }

    /// Whether PostgreSQL may not become writable for want of it.
    pub const fn forbids(&self) -> bool {
        self.required && !self.state.is_armed()
    }

    /// PostgreSQL writes, or is about to, under this lease: begins, or follows the renewal.
    pub fn guard(&mut self, lease: Armed, now: Time) {
        if self.device.is_none() {
            return;
        }
        let lead = lease.deadline.since(now);
        // Heard of a second time the same deadline seems to be a shorter lease.
        if self.lease != Some(lease) || !self.state.is_armed() {
            self.reset_by = reset_by(lease.deadline, lead, self.safety);
            self.leads.rotate_right(1);
            self.leads[0] = lead;
        }
        self.lease = Some(lease);
        match self.state {
            Watchdog::Armed { timeout_s } => self.follow(timeout_s, lead, now),
            _ => self.begin(lead, now),
        }
    }

    /// Feeds, where it is time.
    pub fn tick(&mut self, now: Time) {
        let Watchdog::Armed { timeout_s } = self.state else { return };
        let due = next_feed(now, self.last_feed, timeout_s, self.reset_by);
        if due.is_some_and(|due| due <= now) {
            self.feed(now);
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next(&self, now: Time) -> Option<Time> {
        let Watchdog::Armed { timeout_s } = self.state else { return None };
        next_feed(now, self.last_feed, timeout_s, self.reset_by)
    }

    /// PostgreSQL is gone, or was never there.
    pub fn stand_down(&mut self) {
        if self.state.is_armed() {
            self.release(Watchdog::Idle);
        }
    }

    fn begin(&mut self, lead: Duration, now: Time) {
        self.leads = [lead; RENEWALS];
        if !fits(1, lead, self.safety) {
            // Of this lease too little is left for any device. The next renewal brings more.
            return self.too_slow(1, lead);
        }
        let Some(device) = &mut self.device else { return };
        if device.no_way_out() && !self.required {
            self.state = Watchdog::NoWayOut;
            return;
        }
        match device.open() {
            Err(error) => self.state = failed(&error),
            Ok(abilities) if !abilities.magic_close => self.release(Watchdog::NoMagicClose),
            Ok(abilities) => match self.settle_timeout(abilities.set_timeout, lead) {
                Err(error) => self.release(failed(&error)),
                Ok(timeout_s) if fits(timeout_s, lead, self.safety) => {
                    self.state = Watchdog::Armed { timeout_s };
                    self.feed(now);
                }
                Ok(timeout_s) => {
                    self.too_slow(timeout_s, lead);
                    self.release(self.state);
                }
            },
        }
    }

    /// A ttl that became much shorter needs a shorter timeout. Where there is none, a watchdog that
    /// may not be fed would reset a machine that does nothing wrong.
    fn follow(&mut self, timeout_s: u32, lead: Duration, now: Time) {
        if may_feed(now, timeout_s, self.reset_by) {
            self.adapt(timeout_s, now);
            return self.tick(now);
        }
        match self.settle_timeout(true, lead) {
            Ok(shorter) if may_feed(now, shorter, self.reset_by) => {
                self.state = Watchdog::Armed { timeout_s: shorter };
                self.feed(now);
            }
            settled => {
                self.too_slow(settled.unwrap_or(timeout_s), lead);
                self.release(self.state);
            }
        }
    }

    /// The ttl was changed, and the lease has been as long as that allows for some time.
    fn adapt(&mut self, timeout_s: u32, now: Time) {
        let longest = self.leads.iter().copied().max().unwrap_or_default();
        let wanted = wanted_timeout(longest, self.safety);
        // What a device made of it is kept, unless it is another one that is asked for.
        if self.asked == wanted || !may_feed(now, wanted, self.reset_by) {
            return;
        }
        self.asked = wanted;
        let Some(device) = &mut self.device else { return };
        match device.set_timeout(wanted) {
            Ok(set) if may_feed(now, set, self.reset_by) => {
                self.state = Watchdog::Armed { timeout_s: set };
                // Some drivers count anew from here, others from the last feed.
                self.feed(now);
            }
            // One that makes more of it than it was asked for would strike too late.
            Ok(_) => drop(device.set_timeout(timeout_s)),
            Err(_) => {}
        }
    }

    /// The longest timeout that is not longer than wanted, or else about the shortest there is.
    fn settle_timeout(&mut self, can_set: bool, lead: Duration) -> std::io::Result<u32> {
        let Some(device) = &mut self.device else { return Ok(0) };
        let mut wanted = wanted_timeout(lead, self.safety);
        self.asked = wanted;
        while can_set && wanted > 0 {
            match device.set_timeout(wanted) {
                Ok(set) if fits(set, lead, self.safety) => return Ok(set),
                _ => wanted /= 2,
            }
        }
        let mut longer = (1..8).filter(|_| can_set).map(|power| 1 << power);
        longer.find_map(|long| device.set_timeout(long).ok()).map_or_else(|| device.timeout(), Ok)
    }

    fn feed(&mut self, now: Time) {
        let Watchdog::Armed { timeout_s } = self.state else { return };
        if !may_feed(now, timeout_s, self.reset_by) {
            return;
        }
        // A feed that fails is tried again at the next turn; if it never succeeds, the machine is
        // reset, which is what a broken watchdog stands for.
        if let Some(device) = &mut self.device {
            let _ = device.feed();
        }
        self.last_feed = now;
    }

    fn too_slow(&mut self, timeout_s: u32, lead: Duration) {
        let lead_ms = u32::try_from(lead.as_millis()).unwrap_or(u32::MAX);
        self.state = Watchdog::TooSlow { timeout_s, lead_ms };
    }

    fn release(&mut self, state: Watchdog) {
        self.state = state;
        if let Some(device) = &mut self.device {
            let _ = device.close();
        }
    }
}

fn failed(error: &std::io::Error) -> Watchdog {
    Watchdog::Failed { errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

#[cfg(test)]
mod tests;
