//! The loop: one thread, one `epoll`, nothing that waits and nothing that allocates.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use hart_ha::time::Time;
use nix::sys::signalfd::SignalFd;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::process::{Pid, Signal as Number, WaitOptions, kill_process, wait};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::args::Options;
use super::clients::{Clients, Listener, MAX_CLIENTS, Received, send_to};
use super::dog::{Dog, File};
use super::journal::Journal;
use super::lease::Lease;
use super::rest;
use super::tree::Tree;
use crate::record;
use crate::types::{Exit, ExitRecord, Layers, Phase, Refusal, Signal, Status};
use crate::watchdog::Watchdog;
use crate::wire::{Kind, Reply, Request};

const SIGNALS: u64 = 0;
const TIMER: u64 = 1;
const LISTENER: u64 = 2;
const CGROUP: u64 = 3;
const FIRST_CLIENT: u64 = 4;
const MAX_EVENTS: usize = 8;
/// Between two rounds of killing, where no event calls for one earlier.
const ROUND: Duration = Duration::from_millis(20);

/// What the guard holds open.
pub(super) struct Parts {
    pub epoll: OwnedFd,
    pub signals: SignalFd,
    pub timer: OwnedFd,
    pub listener: Listener,
    pub lock: OwnedFd,
    pub log: std::fs::File,
}

pub(super) struct Server {
    parts: Parts,
    clients: Clients,
    tree: Tree,
    pub(super) lease: Lease,
    /// When the latest change of it that was taken was issued.
    pub(super) ordered: Time,
    layers: Layers,
    pub(super) journal: Journal,
    pub(super) dog: Dog<File>,
    /// What the clients know of the watchdog.
    told: Watchdog,
    grace: Duration,
    exit_file: PathBuf,
    standby_signal: Option<PathBuf>,
    me: i32,
    pub(super) postmaster: Pid,
    pub(super) phase: Phase,
    pub(super) exit: Option<Exit>,
    pub(super) fenced: bool,
    /// PostgreSQL was started as primary, or promoted.
    pub(super) writable: bool,
    /// When the killing begins, or began.
    kill_at: Option<Time>,
    /// A client, or whoever ends the guard, has asked for the end.
    pub(super) asked: bool,
}

/// Registers the guard's own descriptors. The listener is edge-triggered: when `accept` fails for
/// want of descriptors, a level would turn the loop into a spin at real-time priority.
pub(super) fn watch(
    epoll: &OwnedFd,
    signals: &SignalFd,
    timer: &OwnedFd,
    listener: &Listener,
    tree: &Tree,
) -> rustix::io::Result<()> {
    let data = EventData::new_u64;
    epoll::add(epoll, signals.as_fd(), data(SIGNALS), EventFlags::IN)?;
    epoll::add(epoll, timer, data(TIMER), EventFlags::IN)?;
    epoll::add(epoll, &listener.socket, data(LISTENER), EventFlags::IN | EventFlags::ET)?;
    match tree.events() {
        Some(events) => epoll::add(epoll, events, data(CGROUP), EventFlags::PRI | EventFlags::ET),
        None => Ok(()),
    }
}

impl Server {
    #[allow(clippy::too_many_arguments)] // called once, to put the parts together
    pub fn new(
        options: Options,
        parts: Parts,
        tree: Tree,
        lease: Lease,
        layers: Layers,
        journal: Journal,
        dog: Dog<File>,
        me: i32,
        postmaster: Pid,
    ) -> Self {
        Self {
            writable: lease.armed().is_some(),
            told: dog.state(),
            dog,
            parts,
            clients: Clients::default(),
            tree,
            lease,
            ordered: Time::ZERO,
            layers,
            journal,
            grace: options.grace,
            exit_file: options.exit_file,
            standby_signal: options.standby_signal,
            me,
            postmaster,
            phase: Phase::Running,
            exit: None,
            fenced: false,
            kill_at: None,
            asked: false,
        }
    }

    /// Serves until no process is left.
    pub fn run(&mut self) {
        let mut events =
            [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; MAX_EVENTS];
        self.settle();
        while self.phase != Phase::Gone {
            // The next wake-up comes from the timer; when it cannot be set, look again at once
            // and often rather than never.
            let backstop = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let timeout = if self.set_timer() { None } else { Some(&backstop) };
            let ready = epoll::wait(&self.parts.epoll, &mut events, timeout).unwrap_or(0);
            self.settle();
            for event in &events[..ready] {
                self.serve(event.data.u64());
                self.settle();
            }
        }
    }

    /// What must be looked at before anything is served: the deadline first, then the dead.
    fn settle(&mut self) {
        let now = hart_clock::now();
        if self.phase == Phase::Gone {
            return;
        }
        if self.lease.over(now) {
            self.fence(now, "the deadline has passed");
        }
        let children_left = self.reap(now);
        if self.exit.is_some() && !children_left && self.tree.is_empty() {
            self.phase = Phase::Gone;
            self.dog.stand_down();
        } else if self.kill_at.is_some_and(|at| at <= now) {
            self.tree.kill_all();
        }
        self.dog.tick(hart_clock::now());
        self.tell_of_the_watchdog();
    }

    fn tell_of_the_watchdog(&mut self) {
        let state = self.dog.state();
        // That a lease is too short is told once, whatever its length is.
        if std::mem::discriminant(&state) == std::mem::discriminant(&self.told) {
            return;
        }
        self.told = state;
        match state {
            // The text of an error would be allocated.
            Watchdog::Failed { errno } => {
                self.journal.note(format_args!("watchdog: cannot be used, errno {errno}"));
            }
            state => self.journal.note(format_args!("watchdog: {state}")),
        }
        let event = self.reply(0, Kind::Status);
        self.clients.send_all(&event);
    }

    /// Begins the end. It happens once and cannot be called off.
    pub(super) fn fence(&mut self, now: Time, why: &str) {
        if self.fenced || self.exit.is_some() {
            return;
        }
        let _ = kill_process(self.postmaster, Number::QUIT);
        self.fenced = true;
        self.phase = Phase::Fencing;
        self.kill_at = Some(now + self.grace);
        self.journal.note_for_sure(format_args!("fence: {why}"));
    }

    /// Collects the dead; returns whether any child is left.
    fn reap(&mut self, now: Time) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.postmaster => {
                    let signal = status.terminating_signal().map(Exit::Signal);
                    let code = status.exit_status().map(Exit::Code);
                    self.postmaster_ended(signal.or(code).unwrap_or(Exit::Code(-1)), now);
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// From here on whatever is left is killed: backends without a postmaster serve nobody.
    fn postmaster_ended(&mut self, exit: Exit, now: Time) {
        let pid = self.postmaster.as_raw_nonzero();
        self.journal.note_for_sure(format_args!("postmaster {pid}: {exit}"));
        self.exit = Some(exit);
        self.phase = self.phase.max(Phase::Stopping);
        self.kill_at = Some(now);
    }

    /// Sets the timer to what comes next; false when the kernel refuses.
    pub(super) fn set_timer(&self) -> bool {
        let now = hart_clock::now();
        let next = match self.kill_at {
            Some(at) if at <= now => Some(now + ROUND),
            Some(at) => Some(at),
            None => self.lease.armed().map(|armed| armed.deadline).filter(|at| *at != Time::NEVER),
        };
        let next = [next, self.dog.next(now)].into_iter().flatten().min();
        let at = next.map_or(Duration::ZERO, Time::since_origin);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.parts.timer, TimerfdTimerFlags::ABSTIME, &spec).is_ok()
    }

    fn serve(&mut self, token: u64) {
        match token {
            SIGNALS => self.take_signal(),
            TIMER => {
                let _ = rustix::io::read(&self.parts.timer, &mut [0; 8]);
            }
            LISTENER => self.accept(),
            // `settle` reads the cgroup's state every time.
            CGROUP => {}
            client => {
                if let Ok(slot) = usize::try_from(client - FIRST_CLIENT) {
                    self.serve_client(slot);
                }
            }
        }
    }

    /// SIGTERM and SIGINT, as a service manager or a person sends them, stop PostgreSQL and not
    /// the guard, which ends after it. SIGCHLD is for `settle`; the rest is nothing to us.
    fn take_signal(&mut self) {
        let Ok(Some(info)) = self.parts.signals.read_signal() else { return };
        let stop = match i32::try_from(info.ssi_signo).unwrap_or(0) {
            libc::SIGTERM | libc::SIGINT => Signal::Fast,
            libc::SIGQUIT => Signal::Immediate,
            _ => return,
        };
        self.journal.note(format_args!("signal {} from {}", info.ssi_signo, info.ssi_pid));
        let _ = self.signal(stop);
    }

    fn accept(&mut self) {
        for _ in 0..MAX_CLIENTS * 4 {
            match self.parts.listener.accept() {
                Ok(Some(client)) => self.admit(client),
                Ok(None) => self.journal.note(format_args!("client of another user refused")),
                Err(_) => return,
            }
        }
    }

    fn admit(&mut self, client: OwnedFd) {
        if let Err(client) = self.clients.add(client, &self.parts.epoll, FIRST_CLIENT) {
            send_to(&client, &self.reply(0, Kind::Nack(Refusal::Busy)));
        }
    }

    fn serve_client(&mut self, slot: usize) {
        let frame = match self.clients.receive(slot) {
            Received::Frame(frame) => frame,
            Received::Nothing => return,
            Received::Closed => return self.clients.close(slot),
        };
        match Request::decode(&frame) {
            None => self.clients.close(slot),
            Some((seq, request)) => {
                let kind = request.map_or(Kind::Nack(Refusal::Unsupported), |it| self.handle(it));
                let reply = self.reply(seq, kind);
                self.clients.send(slot, &reply);
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            guard_pid: self.me,
            postmaster_pid: self.postmaster.as_raw_nonzero().get(),
            armed: self.lease.armed(),
            layers: Layers { watchdog: self.dog.state().is_armed(), ..self.layers },
            watchdog: self.dog.state(),
            writable: self.writable,
            phase: self.phase,
            exit: self.exit,
            fenced: self.fenced,
        }
    }

    fn reply(&self, seq: u32, kind: Kind) -> Reply {
        Reply { kind, seq, status: self.status(), at: hart_clock::now() }
    }

    /// Puts the data directory to rest, leaves the record and tells the clients, in this order:
    /// whoever hears of the end may at once read the record and start the next guard.
    pub fn finish(mut self) {
        // In a pause a primary that a person stops is left as it is: it may be started by hand.
        let by_hand = !self.asked && !self.fenced && self.writable && self.lease.is_endless();
        if let Some(signal) = self.standby_signal.take().filter(|_| !by_hand) {
            rest::put_to_rest(&signal, &mut self.journal);
        }
        let event = self.reply(0, Kind::Exited);
        if let Some(record) = ExitRecord::of(&event.status, event.at)
            && let Err(error) = record::write(&self.exit_file, &record)
        {
            self.journal.note(format_args!("{}: {error}", self.exit_file.display()));
        }
        let Parts { listener, lock, log, .. } = self.parts;
        drop(listener);
        drop(lock);
        self.clients.send_all(&event);
        self.journal.note_for_sure(format_args!("no process is left"));
        self.journal.flush(&log);
    }
}
