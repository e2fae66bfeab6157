//! The calls that a device sees, in their order.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hart_ha::lease::{challenger_start, holder_deadline, margin};
use hart_ha::time::Time;

use super::device::{Abilities, Device};
use super::{Dog, timing};
use crate::types::Armed;
use crate::watchdog::Watchdog;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Open,
    SetTimeout(u32),
    Feed,
    Close,
}

/// A device with a range of timeouts, as the kernel's core checks it.
#[derive(Clone)]
struct Fake {
    calls: Rc<RefCell<Vec<Call>>>,
    range: (u32, u32),
    abilities: Abilities,
    no_way_out: bool,
    absent: bool,
}

impl Fake {
    fn new() -> Self {
        let abilities = Abilities { set_timeout: true, magic_close: true };
        let calls = Rc::default();
        Self { calls, range: (1, 60), abilities, no_way_out: false, absent: false }
    }

    fn take(&self) -> Vec<Call> {
        self.calls.take()
    }

    fn note(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }
}

impl Device for Fake {
    fn open(&mut self) -> io::Result<Abilities> {
        if self.absent {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        self.note(Call::Open);
        Ok(self.abilities)
    }

    fn no_way_out(&self) -> bool {
        self.no_way_out
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        self.note(Call::SetTimeout(seconds));
        let inside = (self.range.0..=self.range.1).contains(&seconds);
        inside.then_some(seconds).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
    }

    fn timeout(&mut self) -> io::Result<u32> {
        Ok(self.range.1)
    }

    fn feed(&mut self) -> io::Result<()> {
        self.note(Call::Feed);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.note(Call::Close);
        Ok(())
    }
}

const START: Time = Time::from_millis(1_000_000);

fn ttl(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lease(sent: Time, ttl: Duration) -> Armed {
    Armed { term: 1, deadline: holder_deadline(sent, ttl) }
}

fn begun(device: &Fake, required: bool, ttl: Duration) -> Dog<Fake> {
    let mut dog = Dog::new(Some(device.clone()), required, None);
    assert_eq!((dog.state(), dog.next(START)), (Watchdog::Idle, None));
    dog.guard(lease(START, ttl), START);
    dog
}

/// Lets the time pass as the guard's loop does; returns the last feed.
fn let_run(dog: &mut Dog<Fake>, device: &Fake, from: Time, until: Time) -> Option<Time> {
    let (mut now, mut last) = (from, None);
    while let Some(next) = dog.next(now).filter(|next| *next <= until) {
        now = next;
        dog.tick(now);
        assert_eq!(device.take(), [Call::Feed], "at {now}");
        last = Some(now);
    }
    last
}

#[test]
fn it_is_opened_set_fed_and_closed() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(6));
    assert_eq!(device.take(), [Call::Open, Call::SetTimeout(2), Call::Feed]);
    assert_eq!(dog.state(), Watchdog::Armed { timeout_s: 2 });
    assert_eq!(dog.next(START), Some(START + Duration::from_millis(500)));
    dog.tick(START + Duration::from_millis(499));
    assert_eq!(device.take(), [], "not yet");
    dog.stand_down();
    assert_eq!((device.take(), dog.state()), (vec![Call::Close], Watchdog::Idle));
    dog.tick(START + Duration::from_secs(1));
    dog.stand_down();
    assert_eq!((device.take(), dog.next(START)), (vec![], None));
}

#[test]
fn while_the_lease_is_renewed_it_never_strikes() {
    for seconds in [2, 3, 6, 15, 30] {
        let (device, ttl) = (Fake::new(), ttl(seconds));
        let mut dog = begun(&device, true, ttl);
        let Watchdog::Armed { timeout_s } = dog.state() else { panic!("{:?}", dog.state()) };
        device.take();
        let (mut now, mut fed) = (START, START);
        for round in 1..100 {
            // Every third renewal fails.
            let next = now + ttl / 4;
            if let Some(last) = let_run(&mut dog, &device, now, next) {
                fed = last;
            }
            now = next;
            assert!(now.since(fed) < Duration::from_secs(timeout_s.into()), "{ttl:?}: struck");
            if round % 3 != 0 {
                dog.guard(lease(now, ttl), now);
                if !device.take().is_empty() {
                    fed = now;
                }
            }
        }
    }
}

#[test]
fn a_lease_that_runs_out_leaves_the_fence_its_time_and_no_more() {
    for seconds in [2, 3, 6, 15, 30] {
        let (device, ttl) = (Fake::new(), ttl(seconds));
        let mut dog = begun(&device, true, ttl);
        let Watchdog::Armed { timeout_s } = dog.state() else { panic!("{:?}", dog.state()) };
        device.take();
        let last = let_run(&mut dog, &device, START, START + ttl * 3).unwrap();
        let struck = last + Duration::from_secs(timeout_s.into());
        let deadline = lease(START, ttl).deadline;
        assert!(struck > deadline + margin(ttl) / 2, "{ttl:?}: before the guard had its chance");
        assert!(struck <= deadline + margin(ttl), "{ttl:?}: later than a fence may end");
        assert!(struck < challenger_start(START, ttl), "{ttl:?}: after a takeover");
    }
}

#[test]
fn a_late_guard_does_not_feed() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(3));
    device.take();
    // It slept from 1 s to 2.5 s; with a timeout of 1 s the last feed was allowed at 2 s.
    let late = START + Duration::from_millis(2500);
    dog.tick(late);
    assert_eq!((device.take(), dog.next(late)), (vec![], None));
    // The renewal that it finds then gives it new life.
    dog.guard(lease(late, ttl(3)), late);
    assert_eq!(device.take(), [Call::Feed]);
}

#[test]
fn the_same_deadline_again_is_no_shorter_lease() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(30));
    let before = dog.reset_by;
    dog.guard(lease(START, ttl(30)), START + Duration::from_secs(20));
    assert_eq!(dog.reset_by, before);
}

#[test]
fn a_device_that_does_not_fit_is_not_used() {
    let device = Fake { range: (10, 60), ..Fake::new() };
    let mut dog = begun(&device, true, ttl(6));
    let tried = [2, 1, 2, 4, 8, 16].map(Call::SetTimeout);
    let calls: Vec<_> = [&[Call::Open], &tried[..], &[Call::Close]].concat();
    assert_eq!(device.take(), calls, "stopped again");
    assert_eq!(dog.state(), Watchdog::TooSlow { timeout_s: 16, lead_ms: 5400 });
    assert!(dog.forbids() && dog.next(START).is_none());
    // Under a longer lease it fits.
    dog.guard(lease(START, ttl(30)), START);
    assert_eq!(device.take(), [Call::Open, Call::SetTimeout(25), Call::Feed]);
    assert!(!dog.forbids());
}

#[test]
fn too_little_of_a_lease_opens_nothing() {
    let device = Fake::new();
    let mut dog = Dog::new(Some(device.clone()), false, None);
    let now = START + Duration::from_millis(1500);
    dog.guard(lease(START, ttl(3)), now);
    assert_eq!(device.take(), []);
    assert_eq!(dog.state(), Watchdog::TooSlow { timeout_s: 1, lead_ms: 1200 });
}

#[test]
fn a_ttl_cut_short_shortens_the_timeout() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(30));
    device.take();
    dog.guard(lease(START, ttl(3)), START);
    assert_eq!(device.take(), [Call::SetTimeout(1), Call::Feed]);
    assert_eq!(dog.state(), Watchdog::Armed { timeout_s: 1 });

    let device = Fake { range: (10, 60), ..Fake::new() };
    let mut dog = begun(&device, false, ttl(30));
    device.take();
    dog.guard(lease(START, ttl(3)), START);
    assert_eq!(device.take().last(), Some(&Call::Close), "rather none than a false reset");
    assert!(dog.state().is_missing());
}

#[test]
fn a_ttl_that_was_changed_changes_the_timeout_when_some_renewals_have_shown_it() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(21));
    assert_eq!(device.take(), [Call::Open, Call::SetTimeout(16), Call::Feed]);
    let renewed = |dog: &mut Dog<Fake>, round: u64, seconds| {
        let now = START + Duration::from_secs(2 * round);
        dog.guard(lease(now, ttl(seconds)), now);
        device.take().into_iter().filter(|call| *call != Call::Feed).collect::<Vec<_>>()
    };
    for round in 1..3 {
        assert_eq!(renewed(&mut dog, round, 20), [], "the answer may have been slow");
    }
    assert_eq!(renewed(&mut dog, 3, 20), [Call::SetTimeout(15)]);
    assert_eq!(dog.state(), Watchdog::Armed { timeout_s: 15 });
    assert_eq!(
        renewed(&mut dog, 4, 30),
        [Call::SetTimeout(25)],
        "nothing is lost with a longer one"
    );
    assert_eq!(renewed(&mut dog, 5, 30), []);
}

/// What is set is never later than what the lease allows.
#[test]
fn a_longer_timeout_waits_until_the_lease_bears_it() {
    let device = Fake::new();
    let mut dog = begun(&device, false, ttl(20));
    device.take();
    let now = START + Duration::from_secs(2);
    // The answer took 7 s of 30.
    dog.guard(lease(now - Duration::from_secs(7), ttl(30)), now);
    assert!(!device.take().contains(&Call::SetTimeout(25)));
    let Watchdog::Armed { timeout_s } = dog.state() else { panic!("{:?}", dog.state()) };
    assert!(timing::may_feed(now, timeout_s, dog.reset_by));
}

#[test]
fn what_cannot_be_stopped_is_used_only_where_required() {
    let device = Fake { no_way_out: true, ..Fake::new() };
    assert_eq!(begun(&device, false, ttl(6)).state(), Watchdog::NoWayOut);
    assert_eq!(device.take(), []);
    assert!(begun(&device, true, ttl(6)).state().is_armed());
}

#[test]
fn absent_or_unfit_devices_are_named_and_tried_again() {
    let absent = Fake { absent: true, ..Fake::new() };
    let dog = begun(&absent, true, ttl(6));
    assert_eq!(dog.state(), Watchdog::Failed { errno: libc::ENOENT });
    assert!(dog.forbids());
    assert!(!begun(&absent, false, ttl(6)).forbids());

    let abilities = Abilities { set_timeout: true, magic_close: false };
    let device = Fake { abilities, ..Fake::new() };
    let dog = begun(&device, false, ttl(6));
    assert_eq!(
        (dog.state(), device.take()),
        (Watchdog::NoMagicClose, vec![Call::Open, Call::Close])
    );

    let fixed = Abilities { set_timeout: false, magic_close: true };
    let device = Fake { abilities: fixed, range: (10, 10), ..Fake::new() };
    assert!(begun(&device, false, ttl(6)).state().is_missing());
    assert!(begun(&device, false, ttl(30)).state().is_armed());

    let mut none: Dog<Fake> = Dog::new(None, false, None);
    none.guard(lease(START, ttl(6)), START);
    assert_eq!((none.state(), none.forbids()), (Watchdog::Off, false));
}
