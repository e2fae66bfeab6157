//! Other servers, under the same load in the same run.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::load::{Load, dnsperf};

/// Servers need a moment to start, and Consul to elect itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends it, also when something fails half-way.
struct Ends(Child);

impl Ends {
    fn of(command: &mut Command) -> Result<Self, Failure> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Self(child.map_err(|error| format!("{program} cannot be started: {error}"))?))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Consul as a server of one, on the first core, with one service of two tags.
pub(crate) fn consul(seconds: u32) -> Result<Load, Failure> {
    let [http, dns, lan, wan, server] = free_ports()?;
    let ports = format!(
        "ports {{ http = {http} dns = {dns} serf_lan = {lan} serf_wan = {wan} server = {server} grpc = -1 }}"
    );
    let mut agent = Command::new("consul");
    agent.args(["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-hcl", &ports]);
    let _child = Ends::of(&mut agent)?;
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
    let question =
        b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07primary\x02ha\x07service\x06consul\0\0\x01\0\x01";
    answers(dns, question, until)?;
    dnsperf(dns, std::iter::once("primary.ha.service.consul A".to_owned()), seconds)
}

/// NSD as one process on the first core, with the same names in a file: a server that can do nothing
/// but answer, so what it reaches says what this machine and dnsperf can.
pub(crate) fn nsd(clusters: u32, seconds: u32) -> Result<Load, Failure> {
    let place = Place::new()?;
    let [port, ..] = free_ports()?;
    let here = place.0.display();
    let settings = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{here}\"\n  database: \"\"\n  pidfile: \"{here}/pid\"\n  xfrdfile: \"{here}/xfrd\"\n  \
         zonelistfile: \"{here}/zones\"\n  cookie-secret-file: \"\"\nremote-control:\n  \
         control-enable: no\nzone:\n  name: pg.test\n  zonefile: zone\n"
    );
    let mut zone = "$ORIGIN pg.test.\n$TTL 1\n@ IN SOA ns hostmaster 1 60 10 3600 1\n@ IN NS ns\n\
                    ns IN A 127.0.0.1\n"
        .to_owned();
    for number in 0..clusters {
        let ip = Ipv4Addr::from(0x0a00_0001 + number * 4);
        zone.push_str(&format!("primary.c{number} IN A {ip}\n"));
    }
    fs::write(place.0.join("zone"), zone)?;
    fs::write(place.0.join("nsd.conf"), settings)?;
    let mut server = Command::new("nsd");
    server.arg("-d").arg("-c").arg(place.0.join("nsd.conf"));
    let _child = Ends::of(&mut server)?;
    let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07primary\x02c0\x02pg\x04test\0\0\x01\0\x01";
    answers(port, question, hart_clock::now() + PATIENCE)?;
    dnsperf(port, (0..clusters).map(|number| format!("primary.c{number}.pg.test A")), seconds)
}

/// A directory that goes with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("hart-dns-bench-nsd-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until the server answers the question with an address.
fn answers(port: u16, question: &[u8], until: hart_ha::time::Time) -> Result<(), Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut answer = [0; 512];
    while hart_clock::now() < until {
        let sent = socket.send(question).and_then(|_| socket.recv(&mut answer));
        if sent.is_ok() && answer[7] > 0 {
            return Ok(());
        }
    }
    Err("it does not answer with an address".into())
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
