//! From the start to an end that is no fence.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hart_guard::{
    Client, ClientError, Exit, Phase, Refusal, Signal, SpawnError, guard_lives, read_exit, spawn,
};
use nix::sys::signal::Signal as Number;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};

use crate::rig::{
    PATIENCE, POLITE, Rig, STUBBORN, alive, eventually, patiently, proc_status, send,
};

#[tokio::test]
async fn starts_reports_signals_and_stops() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(POLITE)).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!(status.guard_pid, started.guard_pid);
    assert_eq!(status.postmaster_pid, started.postmaster_pid);
    assert_eq!((status.phase, status.armed, status.exit), (Phase::Running, None, None));
    assert!(status.layers.subreaper && status.layers.pdeathsig && !status.layers.cgroup);
    assert!(guard_lives(&rig.path("lock")).unwrap());
    let own = std::process::id().to_string();
    assert_ne!(proc_status(started.guard_pid, "PPid"), own, "the guard is nobody's child");
    let parent = proc_status(started.postmaster_pid, "PPid");
    assert_eq!(parent, started.guard_pid.to_string());
    // The shell itself blocks all signals for the moment in which it starts a child.
    let none_blocked = || proc_status(started.postmaster_pid, "SigBlk") == "0000000000000000";
    eventually("no signal blocked", none_blocked).await;

    client.signal(Signal::Reload, PATIENCE).await.unwrap();
    rig.appears("got-hup").await;
    let stopping = client.signal(Signal::Fast, PATIENCE).await.unwrap();
    assert_eq!(stopping.phase, Phase::Stopping);
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!((record.exit, record.fenced, record.term), (Exit::Code(0), false, None));
    assert!(rig.path("got-int").exists());
    assert_eq!(rig.processes(), Vec::<i32>::new());
    assert_eq!(read_exit(&rig.path("exit")).unwrap(), Some(record));
    assert!(!guard_lives(&rig.path("lock")).unwrap());
    let again = Client::connect(&rig.path("socket"), PATIENCE).await;
    assert!(matches!(again, Err(ClientError::NoGuard { .. })), "{again:?}");
    let after = client.status(PATIENCE).await;
    assert!(matches!(after, Err(ClientError::Ended(it)) if it == record), "{after:?}");
    eventually("the guard's end", || !alive(started.guard_pid)).await;
    assert!(rig.log().contains("no process is left"), "{}", rig.log());
}

#[tokio::test]
async fn a_crash_is_reported_when_the_leftovers_are_gone() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    assert!(rig.processes().len() >= 4);
    send(started.postmaster_pid, Number::SIGKILL);
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!(rig.processes(), Vec::<i32>::new());
    assert_eq!((record.exit, record.fenced), (Exit::Signal(9), false));
}

#[tokio::test]
async fn the_exit_code_comes_through_and_the_next_guard_starts_at_once() {
    let rig = Rig::new();
    let waits = "touch ready; read line < go; exit 3";
    nix::unistd::mkfifo(&rig.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (_, mut client) = rig.start(&rig.spec(waits)).await;
    fs::write(rig.path("go"), "\n").unwrap();
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!(record.exit, Exit::Code(3));
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    assert_eq!(read_exit(&rig.path("exit")).unwrap(), None, "the old record is gone");
    client.signal(Signal::Immediate, PATIENCE).await.unwrap();
    assert_eq!(patiently("the end", client.exited()).await.unwrap().exit, Exit::Code(2));
}

#[tokio::test]
async fn a_second_guard_is_refused() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(POLITE)).await;
    let mut second = rig.spec("touch second");
    second.socket = rig.path("other-socket");
    let error = spawn(&second, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Locked(text) if text.contains("lock")), "{error}");
    let status = client.status(PATIENCE).await.unwrap();
    assert_eq!((status.postmaster_pid, status.phase), (started.postmaster_pid, Phase::Running));
    assert!(!rig.path("second").exists());
}

/// It stands still before it has its lock, for longer than anybody waits: nobody could know of what it starts.
#[tokio::test]
async fn a_guard_that_comes_too_late_starts_nothing() {
    let rig = Rig::new();
    let slow = rig.path("slow");
    let program = env!("CARGO_BIN_EXE_hart-guard-test");
    let script =
        format!("#!/bin/sh\nshift 2\nread line < go\n{program} guard \"$@\" > said\ntouch done\n");
    fs::write(&slow, script).unwrap();
    fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    nix::unistd::mkfifo(&rig.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut spec = rig.spec("touch ready");
    spec.program = slow;
    let late = Duration::from_millis(200);
    assert!(matches!(spawn(&spec, late).await, Err(SpawnError::Timeout { .. })));
    assert!(!guard_lives(&rig.path("lock")).unwrap());
    fs::write(rig.path("go"), "\n").unwrap();
    rig.appears("done").await;
    let said = fs::read_to_string(rig.path("said")).unwrap();
    assert!(said.contains("too late"), "{said}");
    assert!(!rig.path("ready").exists(), "it was started");
}

#[tokio::test]
async fn what_cannot_be_executed_is_named() {
    let rig = Rig::new();
    let mut spec = rig.spec("");
    spec.postgres = vec!["/no/such/postgres".into(), "-D".into()];
    let error = spawn(&spec, PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/postgres") && error.contains("No such file"), "{error}");
    eventually("the guard's end", || !guard_lives(&rig.path("lock")).unwrap()).await;
    assert!(!rig.path("socket").exists());
    assert_eq!(read_exit(&rig.path("exit")).unwrap(), None);

    spec.program = "/no/such/hart".into();
    let error = spawn(&spec, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Io { what, .. } if what.contains("/no/such/hart")));
}

#[test]
fn wrong_usage_is_status_64() {
    let run = Command::new(env!("CARGO_BIN_EXE_hart-guard-test"))
        .args(["guard", "--socket", "relative", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(64));
    assert!(run.stdout.starts_with(b"usage: --socket relative"), "{run:?}");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_death_of_the_agent_changes_nothing() {
    let rig = Rig::new();
    let (started, client) = rig.start(&rig.spec(POLITE)).await;
    let mut agent = Killed(
        Command::new(env!("CARGO_BIN_EXE_hart-guard-test"))
            .arg("agent")
            .arg(rig.path("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "armed\n");
    drop(agent);
    drop(client);
    let status = rig.client().await.status(PATIENCE).await.unwrap();
    assert_eq!((status.phase, status.postmaster_pid), (Phase::Running, started.postmaster_pid));
    assert_eq!(status.armed.map(|armed| armed.term), Some(7));
    assert!(!rig.path("got-quit").exists() && !rig.path("got-int").exists());
}

#[tokio::test]
async fn the_death_of_the_guard_stops_postgres() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec(POLITE)).await;
    assert!(client.status(PATIENCE).await.unwrap().layers.pdeathsig);
    assert!(alive(started.postmaster_pid) && !rig.path("got-quit").exists());
    send(started.guard_pid, Number::SIGKILL);
    // Only the kernel is left to send it: the guard had no time, and nobody else knows the number.
    rig.appears("got-quit").await;
    assert!(!rig.path("got-int").exists(), "an immediate shutdown, not a fast one");
    eventually("the postmaster's end", || !alive(started.postmaster_pid)).await;
    let end = patiently("the connection's end", client.exited()).await;
    assert!(matches!(end, Err(ClientError::Closed)), "{end:?}");
    assert!(!guard_lives(&rig.path("lock")).unwrap());
    assert_eq!(read_exit(&rig.path("exit")).unwrap(), None);
}

/// Without the parent-death signal the test above must fail: a process that is not the guard's
/// child gets nothing.
#[tokio::test]
async fn the_death_of_the_guard_is_told_to_its_child_only() {
    let rig = Rig::new();
    let two = "trap 'touch parent-got-quit; exit 2' QUIT
        sh -c \"trap 'touch child-got-quit; exit 2' QUIT
            touch ready; while :; do sleep 3600 & wait \\$!; done\" &
        while :; do wait; done";
    let (started, _client) = rig.start(&rig.spec(two)).await;
    send(started.guard_pid, Number::SIGKILL);
    rig.appears("parent-got-quit").await;
    eventually("the postmaster's end", || !alive(started.postmaster_pid)).await;
    assert!(!rig.path("child-got-quit").exists());
    assert!(!rig.processes().is_empty(), "what the postmaster left is for kill_tree");
}

#[tokio::test]
async fn a_service_manager_stops_postgres_first() {
    for (number, word) in [(Number::SIGTERM, "got-int"), (Number::SIGQUIT, "got-quit")] {
        let rig = Rig::new();
        let (started, mut client) = rig.start(&rig.spec(POLITE)).await;
        send(started.guard_pid, Number::SIGHUP);
        send(started.guard_pid, number);
        patiently("the end", client.exited()).await.unwrap();
        assert!(rig.path(word).exists(), "{word}");
    }
}

#[tokio::test]
async fn many_clients_all_learn_of_the_end_and_one_too_many_is_told() {
    let rig = Rig::new();
    let (_, first) = rig.start(&rig.spec(POLITE)).await;
    let mut clients = vec![first];
    let refused = loop {
        match Client::connect(&rig.path("socket"), PATIENCE).await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 100);
    };
    let busy =
        |error: &ClientError| matches!(error, ClientError::Refused { refusal: Refusal::Busy, .. });
    assert!(busy(&refused), "{refused}");
    assert_eq!(clients.len(), 16);
    drop(clients.pop());
    // The place is free once the guard has seen the end of the connection.
    let mut late = patiently("a free place", async {
        loop {
            match Client::connect(&rig.path("socket"), PATIENCE).await {
                Ok(client) => break client,
                Err(error) => assert!(busy(&error), "{error}"),
            }
        }
    })
    .await;
    late.signal(Signal::Fast, PATIENCE).await.unwrap();
    for client in clients.iter_mut().chain([&mut late]) {
        assert_eq!(patiently("the end", client.exited()).await.unwrap().exit, Exit::Code(0));
    }
}

#[tokio::test]
async fn the_last_word_is_heard_although_requests_were_left_unread() {
    let rig = Rig::new();
    let (started, mut client) = rig.start(&rig.spec("touch ready; exec sleep 3600")).await;
    send(started.guard_pid, Number::SIGSTOP);
    for _ in 0..20 {
        let unread = client.status(Duration::from_millis(5)).await;
        assert!(matches!(unread, Err(ClientError::Timeout { .. })), "{unread:?}");
    }
    send(started.postmaster_pid, Number::SIGKILL);
    let dead = || proc_status(started.postmaster_pid, "State").starts_with('Z');
    eventually("the postmaster's end", dead).await;
    send(started.guard_pid, Number::SIGCONT);
    eventually("the guard's end", || !alive(started.guard_pid)).await;
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!(record.exit, Exit::Signal(9));
}

#[tokio::test]
async fn nonsense_closes_that_connection_only() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    let address = SocketAddrUnix::new(rig.path("socket")).unwrap();
    for frame in [&b"GET / HTTP/1.1"[..], &[0; 32], &[b'H'; 33], &[7; 5000]] {
        let socket = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        net::connect(&socket, &address).unwrap();
        net::send(&socket, frame, net::SendFlags::empty()).unwrap();
        let mut buffer = [0; 128];
        let read = tokio::task::spawn_blocking(move || {
            net::recv(&socket, &mut buffer, net::RecvFlags::empty()).map(|(length, _)| length)
        });
        let length = patiently("the connection's end", read).await.unwrap();
        assert!(matches!(length, Ok(0) | Err(rustix::io::Errno::CONNRESET)), "{length:?}");
    }
    assert_eq!(client.status(PATIENCE).await.unwrap().phase, Phase::Running);
}

/// It waited on a connection that its sender had given up, as when the guard stood still for a while.
#[tokio::test]
async fn an_order_that_was_issued_before_another_one_is_refused() {
    let rig = Rig::new();
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    let soon = hart_clock::now() + Duration::from_secs(60);
    let earlier = u64::try_from(hart_clock::now().since_origin().as_nanos()).unwrap();
    client.arm(4, soon, PATIENCE).await.unwrap();
    let later = earlier + 120_000_000_000;
    let mut frame = [0_u8; 32];
    frame[..4].copy_from_slice(b"HG\x01\x02");
    frame[4..8].copy_from_slice(&7_u32.to_le_bytes());
    frame[8..16].copy_from_slice(&4_u64.to_le_bytes());
    frame[16..24].copy_from_slice(&later.to_le_bytes());
    frame[24..].copy_from_slice(&earlier.to_le_bytes());
    let address = SocketAddrUnix::new(rig.path("socket")).unwrap();
    let socket = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    net::connect(&socket, &address).unwrap();
    let said = |socket: &std::os::fd::OwnedFd, frame: &[u8]| {
        net::send(socket, frame, net::SendFlags::empty()).unwrap();
        let mut buffer = [0; 64];
        net::recv(socket, &mut buffer, net::RecvFlags::empty()).unwrap();
        (buffer[3], buffer[9])
    };
    assert_eq!(said(&socket, &frame), (3, 11), "refused, as superseded");
    let armed = client.status(PATIENCE).await.unwrap().armed.unwrap();
    assert_eq!((armed.term, armed.deadline), (4, soon));
    // One of an older build does not say when it was issued.
    frame[24..].fill(0);
    assert_eq!(said(&socket, &frame).0, 2, "taken");
}
