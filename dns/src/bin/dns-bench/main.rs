//! Answers per second on one core, beside Consul's DNS and NSD in the same run: `dns-bench [--clusters N]
//! [--seconds S]`. The responder runs on the first core, dnsperf on the second. Needs dnsperf and
//! taskset; without `consul` or `nsd` their rows are missing.

mod load;
mod rivals;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::load::{Load, dnsperf};
use hart_dns::{
    Cluster, Counters, Host, Member, Name, Publisher, Responder, Server, Settings, Sockets,
};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

type Failure = Box<dyn std::error::Error>;

/// The zone is changed so often while its memory is looked at.
const CHANGES: u32 = 20_000;

fn main() -> ExitCode {
    let (mut clusters, mut seconds) = (1000, 10);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse().ok());
        match (option.as_str(), number) {
            ("--clusters", Some(number)) => clusters = number,
            ("--seconds", Some(number)) => seconds = number,
            _ => {
                eprintln!("usage: dns-bench [--clusters N] [--seconds S]");
                return ExitCode::from(64);
            }
        }
    }
    match run(clusters, seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dns-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(clusters: u32, seconds: u32) -> Result<(), Failure> {
    let mut first = CpuSet::new();
    first.set(0)?;
    // Threads and children that are started from here on stay there.
    sched_setaffinity(Pid::from_raw(0), &first)?;
    println!("| what | answers/s | CPU µs per answer | average latency |");
    println!("|---|---|---|---|");
    let publisher = Publisher::new(Settings::new(Name::parse("pg.test")?), 1);
    for number in 0..clusters {
        publisher.put(cluster(number, 1)?, None);
    }
    publisher.ready();
    let full = resident()?;
    let sockets = Sockets::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])?;
    let port = sockets.addresses().first().map_or(0, SocketAddr::port);
    let responder = Responder::new(publisher.clone(), Arc::new(Counters::default()));
    let server = Server::start(sockets, responder)?;
    for (what, kind, head) in [
        ("hart, A of the primary", "A", "primary."),
        ("hart, A of two replicas", "A", "replica."),
        ("hart, SRV of two replicas", "SRV", "_postgresql._tcp.replica."),
        ("hart, no such name", "A", "nobody."),
    ] {
        let names = (0..clusters).map(|number| format!("{head}c{number}.pg.test {kind}"));
        let before = getrusage(UsageWho::RUSAGE_SELF)?;
        let load = dnsperf(port, names, seconds)?;
        let after = getrusage(UsageWho::RUSAGE_SELF)?;
        let spent = |usage: nix::sys::resource::Usage| {
            usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
        };
        let each = (spent(after) - spent(before)) as f64 / load.completed.max(1.0);
        println!("| {what} | {:.0} | {each:.2} | {:.2} ms |", load.rate, load.latency * 1000.0);
    }
    let loaded = resident()?;
    for change in 0..CHANGES {
        publisher.put(cluster(change % clusters, 1 + (change / clusters) % 3)?, None);
    }
    let changed = resident()?;
    drop(server);
    for (what, load) in [
        ("Consul, A of a service", rivals::consul(seconds)),
        ("NSD, A of the primary", rivals::nsd(clusters, seconds)),
    ] {
        match load {
            Ok(Load { rate, latency, .. }) => {
                println!("| {what} | {rate:.0} | – | {:.2} ms |", latency * 1000.0);
            }
            Err(error) => println!("| {what} | not measured: {error} | | |"),
        }
    }
    println!(
        "\nResident memory with {clusters} clusters: {full} kB; after the load {loaded} kB; after \
         {CHANGES} changes of the zone {changed} kB."
    );
    Ok(())
}

/// Three members, of which `primary` leads.
fn cluster(number: u32, primary: u32) -> Result<Cluster, Failure> {
    let member = |last: u32| {
        let ip = Ipv4Addr::from(0x0a00_0000 + number * 4 + last);
        Member {
            name: format!("n{last}"),
            host: Host::Ip(IpAddr::V4(ip)),
            port: 5432,
            reads: last != primary,
            sync: false,
            facts: vec!["role=replica".to_owned(), "timeline=1".to_owned()],
        }
    };
    let primary = Some(format!("n{primary}"));
    let members = (1..=3).map(member).collect();
    Ok(Cluster { scope: format!("c{number}"), members, primary, proxies: Vec::new() })
}

/// Resident memory of this process, in kB.
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or("no VmRSS in /proc/self/status")?.parse()?)
}
