//! The laboratory itself: hosts are separate, faults are real, nothing is left.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use hart_testkit::{Host, Lab, TempDir, alive, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PORT: u16 = 4000;
const DEADLINE: Duration = Duration::from_secs(60);

/// Long enough for a connection in a working network on a busy machine, and shorter than the
/// kernel's own giving up.
const SILENT: Duration = Duration::from_secs(2);

fn listen(host: &Host) -> Result<()> {
    let at = host.address();
    let (ready, is_ready) = std::sync::mpsc::channel();
    // The thread ends with the process; the connection is all the answer that is wanted.
    host.thread(async move || -> Result<()> {
        let listener = TcpListener::bind((at, PORT)).await?;
        ready.send(())?;
        loop {
            let _ = listener.accept().await?;
        }
    })?;
    is_ready.recv_timeout(DEADLINE).context("the listener did not start")
}

async fn connect(to: Ipv4Addr) -> Result<()> {
    timeout(SILENT, TcpStream::connect(SocketAddr::from((to, PORT)))).await??;
    Ok(())
}

fn reaches(from: &Host, to: Ipv4Addr) -> bool {
    let thread = from.thread(async move || connect(to).await.is_ok()).expect("thread");
    thread.join().expect("no panic").expect("entered")
}

async fn reaches_again(from: &Host, to: Ipv4Addr) {
    let again = eventually("a connection", DEADLINE, async || {
        anyhow::ensure!(reaches(from, to));
        Ok(())
    });
    again.await.expect("healed");
}

fn namespace() -> std::path::PathBuf {
    std::fs::read_link("/proc/thread-self/ns/net").expect("procfs")
}

fn names() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn hosts_have_networks_of_their_own() {
    let lab = Lab::new(2).expect("lab");
    let [n1, n2] = lab.hosts() else { panic!("two hosts") };
    assert_ne!(n1.address(), n2.address());
    // Each can have the same port on its loopback, and none is visible outside.
    for host in [n1, n2] {
        let bound = host.thread(async || TcpListener::bind(("127.0.0.1", PORT)).await.is_ok());
        assert!(bound.expect("thread").join().expect("no panic").expect("entered"));
    }
    let links = n1.output(Command::new("ip").args(["-brief", "link"])).expect("ip");
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(links.contains("lo ") && links.contains("eth0"), "{links}");
    assert_eq!(links.lines().count(), 2, "{links}");

    listen(n1).expect("listener");
    assert!(reaches(n2, n1.address()));
    let before = namespace();
    let in_hub = lab.enter_hub().expect("hub");
    connect(n1.address()).await.expect("in the hub");
    assert_ne!(namespace(), before);
    drop(in_hub);
    assert_eq!(namespace(), before);

    let other = Lab::new(1).expect("another lab");
    assert!(!reaches(&other.hosts()[0], n1.address()), "labs do not see each other");
}

#[tokio::test]
async fn a_cut_host_is_alone_until_healed() {
    let lab = Lab::new(2).expect("lab");
    let [n1, n2] = lab.hosts() else { panic!("two hosts") };
    listen(n1).expect("listener");
    assert!(reaches(n2, n1.address()));
    lab.cut(n1).expect("cut");
    assert!(!reaches(n2, n1.address()));
    assert!(reaches(n1, n1.address()), "its own address works on the host itself");
    lab.heal(n1).expect("healed");
    reaches_again(n2, n1.address()).await;
}

#[tokio::test]
async fn a_partition_is_between_two_hosts_and_silent() {
    let lab = Lab::new(3).expect("lab");
    let [n1, n2, n3] = lab.hosts() else { panic!("three hosts") };
    for host in [n1, n2] {
        listen(host).expect("listener");
        assert!(reaches(n3, host.address()));
    }
    let (from, to) = (n1.clone(), n2.address());
    lab.partition(n1, n2).expect("partition");
    let silence =
        from.thread(async move || timeout(SILENT, TcpStream::connect((to, PORT))).await.is_err());
    assert!(silence.expect("thread").join().expect("no panic").expect("entered"));
    assert!(!reaches(n2, n1.address()));
    assert!(reaches(n3, n1.address()) && reaches(n3, n2.address()));
    lab.unite(n1, n2).expect("united");
    reaches_again(n1, n2.address()).await;
    reaches_again(n2, n1.address()).await;
}

#[tokio::test]
async fn a_block_is_one_way_for_packets_and_both_ways_for_tcp() {
    let lab = Lab::new(2).expect("lab");
    let [n1, n2] = lab.hosts() else { panic!("two hosts") };
    listen(n1).expect("listener");
    listen(n2).expect("listener");
    lab.block(n1, n2).expect("blocked");
    assert!(!reaches(n1, n2.address()) && !reaches(n2, n1.address()));
    lab.unblock(n1, n2).expect("unblocked");
    reaches_again(n1, n2.address()).await;
}

#[tokio::test]
async fn killing_a_node_ends_its_processes_and_no_others() {
    let dir = TempDir::new().expect("dir");
    let lab = Lab::new(2).expect("lab");
    let [n1, n2] = lab.hosts() else { panic!("two hosts") };
    let log = dir.path().join("log");
    let start = |host: &Host| {
        // With a grandchild that would outlive its parent.
        let mut command = Command::new("sh");
        host.start(command.args(["-c", "sleep 600 & sleep 600 & wait"]), &log).expect("start")
    };
    let (first, second) = (start(n1), start(n2));
    let all_there = eventually("three processes", DEADLINE, async || {
        anyhow::ensure!(n1.processes().len() == 3 && n2.processes().len() == 3);
        Ok(())
    });
    all_there.await.expect("started");
    lab.kill_node(n1).expect("killed");
    assert!(!alive(first.id()) && alive(second.id()));
    assert!(n1.processes().iter().all(|pid| !alive(*pid)));
}

#[test]
fn nothing_is_left_after_a_panic() {
    let (send, receive) = std::sync::mpsc::channel();
    let work = std::thread::spawn(move || {
        let dir = TempDir::new().expect("dir");
        let lab = Lab::new(1).expect("lab");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]);
        let _process = lab.hosts()[0].start(&mut command, &dir.path().join("log")).expect("start");
        send.send((lab.prefix().to_owned(), lab.hosts()[0].processes())).expect("sent");
        panic!("on purpose");
    });
    assert!(work.join().is_err());
    let (prefix, processes) = receive.recv().expect("received");
    assert!(!processes.is_empty() && processes.iter().all(|pid| !alive(*pid)));
    assert!(!names().contains(&prefix));
}

#[test]
fn leftovers_of_a_dead_run_are_removed() {
    // A process id above the kernel's largest, so certainly of no living process.
    let name = format!("hart-4194305-{:06x}-n1", fastrand::u32(..1 << 24));
    let added = Command::new("ip").args(["netns", "add", &name]).status().expect("ip");
    assert!(added.success() || !names().contains(&name));
    let _lab = Lab::new(0).expect("lab");
    assert!(!names().contains(&name));
}
