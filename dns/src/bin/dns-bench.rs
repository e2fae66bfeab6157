//! Answers per second on one core, beside Consul's DNS in the same run: `dns-bench [--clusters N]
//! [--seconds S]`. The responder runs on the first core, dnsperf on the second. Needs dnsperf and
//! taskset; without a `consul` its row is missing.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

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
/// Consul needs a moment to elect itself.
const PATIENCE: Duration = Duration::from_secs(60);

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
    match consul(seconds) {
        Ok(load) => println!(
            "| Consul, A of a service | {:.0} | – | {:.2} ms |",
            load.rate,
            load.latency * 1000.0
        ),
        Err(error) => println!("| Consul | not measured: {error} | | |"),
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

struct Load {
    rate: f64,
    completed: f64,
    latency: f64,
}

fn dnsperf(
    port: u16,
    questions: impl Iterator<Item = String>,
    seconds: u32,
) -> Result<Load, Failure> {
    let file = std::env::temp_dir().join(format!("hart-dns-bench-{}", std::process::id()));
    let text: Vec<String> = questions.collect();
    fs::File::create(&file)?.write_all((text.join("\n") + "\n").as_bytes())?;
    let output = Command::new("taskset")
        .args(["-c", "1", "dnsperf", "-s", "127.0.0.1", "-c", "4", "-q", "400"])
        .args(["-p", &port.to_string(), "-l", &seconds.to_string(), "-d"])
        .arg(&file)
        .output();
    fs::remove_file(&file)?;
    let output = output.map_err(|error| format!("taskset and dnsperf are needed: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| -> Result<f64, Failure> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next());
        let number = word.and_then(|word| word.parse().ok());
        Ok(number.ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("dnsperf printed no \"{label}\": {text}{complaint}")
        })?)
    };
    Ok(Load {
        rate: number("Queries per second:")?,
        completed: number("Queries completed:")?,
        latency: number("Average Latency (s):")?,
    })
}

/// Ends it, also when something fails half-way.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Consul as a server of one, on the first core, with one service of two tags.
fn consul(seconds: u32) -> Result<Load, Failure> {
    let [http, dns, lan, wan, server] = free_ports()?;
    let ports = format!(
        "ports {{ http = {http} dns = {dns} serf_lan = {lan} serf_wan = {wan} server = {server} grpc = -1 }}"
    );
    let child = Command::new("consul")
        .args(["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-hcl", &ports])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("there is no consul: {error}"))?;
    let _child = Ends(child);
    let address = format!("http://127.0.0.1:{http}");
    let until = hart_clock::now() + PATIENCE;
    while !Command::new("consul")
        .args(["services", "register", "-http-addr", &address, "-name", "ha", "-tag", "primary"])
        .args(["-address", "10.0.0.1", "-port", "5432"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?
        .success()
    {
        if hart_clock::now() > until {
            return Err("it did not start".into());
        }
    }
    answers(dns, until)?;
    dnsperf(dns, std::iter::once("primary.ha.service.consul A".to_owned()), seconds)
}

/// Waits until Consul answers with an address.
fn answers(port: u16, until: hart_ha::time::Time) -> Result<(), Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let question =
        b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07primary\x02ha\x07service\x06consul\0\0\x01\0\x01";
    let mut answer = [0; 512];
    while hart_clock::now() < until {
        let sent = socket.send(question).and_then(|_| socket.recv(&mut answer));
        if sent.is_ok() && answer[7] > 0 {
            return Ok(());
        }
    }
    Err("its DNS does not know the service".into())
}

fn free_ports() -> Result<[u16; 5], Failure> {
    // Held together, so that they differ.
    let held: Vec<TcpListener> =
        (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; 5];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Resident memory of this process, in kB.
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or("no VmRSS in /proc/self/status")?.parse()?)
}
