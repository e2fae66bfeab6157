//! What clients may ask for, and what becomes of it.
//!
//! | request | refused |
//! |---|---|
//! | arm | issued before another order that was taken; lower term; after the deadline |
//! | disarm | the same; where PostgreSQL may write |
//! | promote | no lease, or another term; after the deadline; a required watchdog is missing |
//! | signal | after the fence has begun |
//! | fence | never |

use hart_ha::time::Time;
use rustix::process::{Signal as Number, kill_process};

use super::lease::Lease;
use super::server::Server;
use crate::types::{Refusal, Signal};
use crate::wire::{Kind, Request};

impl Server {
    pub(super) fn handle(&mut self, request: Request) -> Kind {
        let done = match request {
            Request::Status => return Kind::Status,
            Request::Arm { armed, issued } => {
                self.in_order(issued).and_then(|()| self.change_lease(|lease| lease.arm(armed)))
            }
            Request::Disarm { .. } if self.writable => Err(Refusal::Writable),
            Request::Disarm { term, issued } => {
                self.in_order(issued).and_then(|()| self.change_lease(|lease| lease.disarm(term)))
            }
            Request::Promote { term } => self.promote(term),
            Request::Signal(signal) => self.signal(signal),
            Request::Fence => {
                self.fence(hart_clock::now(), "asked for");
                Ok(())
            }
        };
        done.map_or_else(Kind::Nack, |()| Kind::Ack)
    }

    /// What waited on a connection that its sender has given up does not count after what came later: a
    /// longer deadline would undo the shorter one that a request to Consul has left upon.
    fn in_order(&mut self, issued: Time) -> Result<(), Refusal> {
        if issued != Time::ZERO && issued < self.ordered {
            return Err(Refusal::Superseded);
        }
        self.ordered = self.ordered.max(issued);
        Ok(())
    }

    /// Moves the deadline. The clock is read after the change: had this process been stopped
    /// between the look at the deadline and the change, the old deadline still counts.
    fn change_lease(
        &mut self,
        change: impl FnOnce(&mut Lease) -> Result<Lease, Refusal>,
    ) -> Result<(), Refusal> {
        self.still_running()?;
        let before = change(&mut self.lease)?;
        if !self.set_timer() {
            self.lease = before;
            return Err(Refusal::System);
        }
        let now = hart_clock::now();
        if before.over(now) {
            self.lease = before;
        }
        if self.lease.over(now) {
            self.fence(now, "the deadline has passed");
            return Err(Refusal::Fenced);
        }
        if self.writable {
            self.watch_over();
        }
        Ok(())
    }

    /// Lets PostgreSQL become writable: only under a lease of this very term that is not over, and
    /// with the watchdog running where one is required.
    fn promote(&mut self, term: u64) -> Result<(), Refusal> {
        self.still_running()?;
        let armed = self.lease.armed().ok_or(Refusal::Unarmed)?;
        if term < armed.term {
            return Err(Refusal::LowerTerm);
        }
        if term > armed.term {
            return Err(Refusal::OtherTerm);
        }
        self.watch_over();
        // Opening a device may take its time: the clock is read after it.
        let now = hart_clock::now();
        if self.lease.over(now) {
            self.fence(now, "the deadline has passed");
            return Err(Refusal::Fenced);
        }
        if self.dog.forbids() && !self.lease.is_endless() {
            return Err(Refusal::Watchdog);
        }
        self.writable = true;
        self.journal.note(format_args!("promotion under term {term}"));
        kill_process(self.postmaster, Number::USR1).map_err(|_| Refusal::System)
    }

    /// Without a deadline there is nothing that the watchdog would have to strike for.
    fn watch_over(&mut self) {
        if self.lease.is_endless() {
            return self.dog.stand_down();
        }
        if let Some(armed) = self.lease.armed() {
            self.dog.guard(armed, hart_clock::now());
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), Refusal> {
        self.still_running()?;
        let (number, stops) = match signal {
            Signal::Smart => (Number::TERM, true),
            Signal::Fast => (Number::INT, true),
            Signal::Immediate => (Number::QUIT, true),
            Signal::Reload => (Number::HUP, false),
        };
        kill_process(self.postmaster, number).map_err(|_| Refusal::System)?;
        if stops {
            self.asked = true;
            self.phase = crate::types::Phase::Stopping;
        }
        Ok(())
    }

    fn still_running(&self) -> Result<(), Refusal> {
        if self.exit.is_some() {
            return Err(Refusal::Ending);
        }
        if self.fenced { Err(Refusal::Fenced) } else { Ok(()) }
    }
}
