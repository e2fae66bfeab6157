//! The watchdog's stand-in: a pipe whose other end is the test. What is asserted is the order of
//! what the guard says, and that it is silent when it must be.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use hart_guard::{
    Armed, ClientError, News, Phase, Refusal, SpawnError, Watchdog, WatchdogSpec, guard_lives,
    spawn, stand_down,
};
use hart_ha::time::Time;
use nix::sys::signal::Signal as Number;

use crate::rig::{PATIENCE, POLITE, Rig, STUBBORN, eventually, patiently, send};

const HOUR: Duration = Duration::from_secs(3600);

struct Dog {
    reader: fs::File,
    said: String,
}

impl Dog {
    fn new(rig: &Rig) -> Self {
        let path = rig.path("watchdog");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        Self { reader: reader.unwrap(), said: String::new() }
    }

    fn spec(rig: &Rig, required: bool) -> Option<WatchdogSpec> {
        let device = rig.path("watchdog");
        Some(WatchdogSpec { device, testing: true, required, safety_margin: None })
    }

    /// All that was said so far.
    fn said(&mut self) -> &str {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.reader.read(&mut buffer) {
            self.said.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        &self.said
    }

    fn feeds(&mut self) -> usize {
        self.said().split_once('\n').map_or(0, |(_, feeds)| feeds.matches('1').count())
    }
}

fn ahead(by: Duration) -> Time {
    hart_clock::now() + by
}

#[tokio::test]
async fn it_is_set_and_fed_and_stopped_when_postgres_is_gone() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(Duration::from_secs(9)) });
    let (_, mut client) = rig.start(&spec).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert!(status.layers.watchdog && status.writable, "{status:?}");
    let Watchdog::Armed { timeout_s } = status.watchdog else { panic!("{status:?}") };
    assert!(timeout_s >= 1);
    assert!(dog.said().starts_with(&format!("Ctimeout={timeout_s}\n1")), "{:?}", dog.said());
    let before = dog.feeds();
    client.arm(1, ahead(HOUR), PATIENCE).await.unwrap();
    eventually("more feeds", || dog.feeds() > before + 2).await;
    client.signal(hart_guard::Signal::Fast, PATIENCE).await.unwrap();
    assert!(!patiently("the end", client.exited()).await.unwrap().fenced);
    assert!(dog.said().ends_with("1V"), "{:?}", dog.said());
}

#[tokio::test]
async fn a_standby_needs_none_until_it_is_promoted() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, false);
    let (_, mut client) = rig.start(&spec).await;
    client.arm(1, ahead(HOUR), PATIENCE).await.unwrap();
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!((status.watchdog, status.layers.watchdog), (Watchdog::Idle, false));
    assert_eq!(dog.said(), "");
    let mut other = rig.client().await;
    client.promote(1, PATIENCE).await.unwrap();
    assert!(dog.said().starts_with("Ctimeout="), "{:?}", dog.said());
    let News::Changed(status) = patiently("the news", other.news()).await.unwrap() else {
        panic!("no change");
    };
    assert!(status.layers.watchdog && status.layers.names().contains(&"watchdog"));
}

#[tokio::test]
async fn a_frozen_guard_does_not_feed_and_a_dead_one_does_not_stop_it() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(Duration::from_secs(9)) });
    let (started, mut client) = rig.start(&spec).await;
    client.arm(1, ahead(Duration::from_secs(30)), PATIENCE).await.unwrap();
    eventually("feeds", || dog.feeds() >= 2).await;
    send(started.guard_pid, Number::SIGSTOP);
    let stopped = || crate::rig::proc_status(started.guard_pid, "State").starts_with('T');
    eventually("the guard's stop", stopped).await;
    let before = dog.said().to_owned();
    // Longer than several of its intervals: it would have been fed again.
    let Watchdog::Armed { timeout_s } = spec_state(&before) else { panic!("{before}") };
    tokio::time::sleep(Duration::from_secs(timeout_s.into())).await;
    assert_eq!(dog.said(), before);
    send(started.guard_pid, Number::SIGKILL);
    let end = patiently("the connection's end", client.exited()).await;
    assert!(matches!(end, Err(ClientError::Closed)), "{end:?}");
    eventually("the guard's end", || !guard_lives(&rig.path("lock")).unwrap()).await;
    assert!(!dog.said().contains('V'), "the kernel goes on counting");
    // Whoever has seen that nothing is left may stop it.
    stand_down(&rig.path("watchdog")).unwrap();
    assert!(dog.said().ends_with('V'));
}

/// The timeout that was set.
fn spec_state(said: &str) -> Watchdog {
    let set = said.rsplit_once("Ctimeout=").and_then(|(_, after)| after.lines().next());
    set.and_then(|n| n.parse().ok())
        .map_or(Watchdog::Off, |timeout_s| Watchdog::Armed { timeout_s })
}

#[tokio::test]
async fn a_fence_in_time_stops_it() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(STUBBORN);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(Duration::from_secs(4)) });
    let (_, mut client) = rig.start(&spec).await;
    let record = patiently("the fence", client.exited()).await.unwrap();
    assert!(record.fenced);
    assert_eq!(rig.processes(), Vec::<i32>::new());
    assert!(dog.said().ends_with('V'), "{:?}", dog.said());
    assert_eq!(dog.said().matches('V').count(), 1);
}

#[tokio::test]
async fn required_and_missing_nothing_is_started_as_primary_or_promoted() {
    let rig = Rig::new();
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(HOUR) });
    spec.postgres = ["touch", "started"].map(Into::into).to_vec();
    let error = spawn(&spec, PATIENCE).await.unwrap_err();
    let SpawnError::Failed(text) = &error else { panic!("{error}") };
    assert!(text.contains("required watchdog") && text.contains("No such file"), "{text}");
    eventually("the guard's end", || !guard_lives(&rig.path("lock")).unwrap()).await;
    assert!(!rig.path("started").exists());

    // A standby may run.
    let mut spec = rig.spec(ANSWERS);
    spec.watchdog = Dog::spec(&rig, true);
    let (_, mut client) = rig.start(&spec).await;
    client.arm(1, ahead(HOUR), PATIENCE).await.unwrap();
    match client.promote(1, PATIENCE).await {
        Err(ClientError::Refused { refusal: Refusal::Watchdog, status, .. }) => {
            assert_eq!(status.watchdog, Watchdog::Failed { errno: libc::ENOENT });
            assert!(!status.writable);
        }
        other => panic!("{other:?}"),
    }
    client.signal(hart_guard::Signal::Reload, PATIENCE).await.unwrap();
    rig.appears("got-hup").await;
    assert!(!rig.path("got-usr1").exists(), "nothing was signalled");
    client.disarm(1, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_lease_too_short_for_any_device_is_named_with_the_remedy() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(Duration::from_millis(1400)) });
    let error = spawn(&spec, PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("raise ttl to"), "{error}");
    assert_eq!(dog.said(), "", "it was never opened");
}

#[tokio::test]
async fn automatic_and_missing_only_costs_the_layer() {
    let rig = Rig::new();
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, false);
    spec.arm = Some(Armed { term: 1, deadline: ahead(HOUR) });
    let (_, mut client) = rig.start(&spec).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!((status.phase, status.layers.watchdog), (Phase::Running, false));
    assert_eq!(status.watchdog, Watchdog::Failed { errno: libc::ENOENT });
    // It comes back with a renewal, once it is there.
    let mut dog = Dog::new(&rig);
    client.arm(1, ahead(HOUR), PATIENCE).await.unwrap();
    assert!(client.status(PATIENCE).await.unwrap().layers.watchdog);
    assert!(dog.feeds() >= 1);
}

#[tokio::test]
async fn what_cannot_be_executed_leaves_no_watchdog_running() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec("");
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(HOUR) });
    spec.postgres = vec!["/no/such/postgres".into()];
    assert!(matches!(spawn(&spec, PATIENCE).await, Err(SpawnError::Exec(_))));
    assert!(dog.said().ends_with('V'), "{:?}", dog.said());
}

/// A postmaster that notes what it is told, and goes on.
pub const ANSWERS: &str = "trap 'touch got-usr1' USR1
    trap 'touch got-hup' HUP
    trap 'exit 0' INT QUIT
    touch ready; while :; do sleep 3600 & wait $!; done";

/// In a pause the lease has no end: there is nothing to strike for, until there is a deadline again.
#[tokio::test]
async fn without_a_deadline_it_is_closed_and_opened_again_with_one() {
    let rig = Rig::new();
    let mut dog = Dog::new(&rig);
    let mut spec = rig.spec(POLITE);
    spec.watchdog = Dog::spec(&rig, true);
    spec.arm = Some(Armed { term: 1, deadline: ahead(HOUR) });
    let (_, mut client) = rig.start(&spec).await;
    let status = client.arm(1, Time::NEVER, PATIENCE).await.unwrap();
    assert_eq!(status.watchdog, Watchdog::Idle);
    assert_eq!(status.armed, Some(Armed { term: 1, deadline: Time::NEVER }), "still of this term");
    assert!(dog.said().ends_with('V'), "{:?}", dog.said());
    let status = client.arm(1, ahead(HOUR), PATIENCE).await.unwrap();
    assert!(status.watchdog.is_armed(), "{status:?}");
    assert!(dog.said().split_once('V').is_some_and(|(_, anew)| anew.starts_with("Ctimeout=")));
    // As at the restart of a primary in a pause.
    client.signal(hart_guard::Signal::Fast, PATIENCE).await.unwrap();
    patiently("the end", client.exited()).await.unwrap();
    let said = dog.said().len();
    spec.arm = Some(Armed { term: 1, deadline: Time::NEVER });
    let (_, mut client) = rig.start(&spec).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!((status.watchdog, status.writable), (Watchdog::Idle, true));
    assert_eq!(dog.said().len(), said, "it is not opened");
}
