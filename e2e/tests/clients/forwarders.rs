//! `hart dns` behind each resolver that the distribution has, with the file of `hart template`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, run_program};
use hart_testkit::{Consul, Process, Rest, TempDir, eventually, hart_binary};
use serde_json::{Value, json};

const ZONE: &str = "pg.test";
const PRIMARY: &str = "primary.ha.pg.test";

/// Consul with the keys of a cluster whose nodes are not here, and `hart dns`.
struct Served {
    consul: Consul,
    dir: TempDir,
    port: u16,
    /// At 127.0.0.1, and a second one at 127.0.0.2 where a test wants it; the port is the same.
    responders: Vec<Process>,
}

impl Served {
    async fn start() -> Result<Self> {
        let (consul, dir) = (Consul::on_loopback().await?, TempDir::new()?);
        for (number, role) in [(1, "primary"), (2, "replica"), (3, "replica")] {
            put(&consul, &format!("members/n{number}"), &member(number, role)).await?;
        }
        lead(&consul, 1).await?;
        put(&consul, "initialize", &json!("1")).await?;
        let mut served = Self { consul, dir, port: port()?, responders: Vec::new() };
        served.responder("127.0.0.1").await?;
        Ok(served)
    }

    async fn with_two() -> Result<Self> {
        let mut served = Self::start().await?;
        served.responder("127.0.0.2").await?;
        Ok(served)
    }

    async fn responder(&mut self, address: &str) -> Result<()> {
        let mut command = Command::new(hart_binary()?);
        let listen = format!("{address}:{}", self.port);
        command.args(["dns", "--zone", ZONE, "--listen", &listen]);
        command.args(["--consul", &self.consul.address()]);
        // Consul as a recursor asks it for everything.
        command.args(["--forward", "127.0.0.1:1"]).env("NO_COLOR", "1");
        let log = self.dir.path().join(format!("dns-{address}.log"));
        self.responders.push(Process::start(&mut command, &log)?);
        self.answers_at(address, self.port, PRIMARY, &["10.0.0.1"]).await
    }

    /// The file of a template, with these lines around it.
    fn file(&self, template: &str, before: &str, after: &str) -> Result<PathBuf> {
        let (port, zone) = (format!("port={}", self.port), format!("zone={ZONE}"));
        let mut command = Command::new(hart_binary()?);
        command.args(["-d", &format!("consul://{}", self.consul.address())]);
        command.args(["template", template, "ha", "--set", &port]);
        if template != "dns-consul" {
            command.args(["--set", &zone]);
        }
        if self.responders.len() > 1 {
            command.args(["--set", "address=127.0.0.1, 127.0.0.2"]);
        }
        let path = self.dir.path().join(template);
        fs::write(&path, format!("{before}{}{after}", run_program(&mut command)?))?;
        Ok(path)
    }

    fn run(&self, program: &str, arguments: &[String]) -> Result<Process> {
        let mut command = Command::new(find(program));
        command.args(arguments).current_dir(self.dir.path());
        Process::start(&mut command, &self.dir.path().join(format!("{program}.log")))
    }

    async fn answers(&self, port: u16, name: &str, expected: &[&str]) -> Result<()> {
        self.answers_at("127.0.0.1", port, name, expected).await
    }

    async fn answers_at(
        &self,
        server: &str,
        port: u16,
        name: &str,
        expected: &[&str],
    ) -> Result<()> {
        eventually(&format!("{name} at {server}:{port} to be {expected:?}"), DEADLINE, async || {
            let found = dig_at(server, port, &[name, "+short", "+time=2"])?;
            let mut found: Vec<&str> = found.lines().collect();
            found.sort_unstable();
            ensure!(found == expected, "{found:?}");
            Ok(())
        })
        .await
        .with_context(|| self.logs())
    }

    fn logs(&self) -> String {
        let entries = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let logs = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some());
        logs.map(|path| {
            format!("--- {}\n{}\n", path.display(), fs::read_to_string(&path).unwrap_or_default())
        })
        .collect()
    }

    /// With two responders no look-up goes unanswered though one of them, whichever it is, is silent;
    /// members that move or are replaced meanwhile are found where they are.
    async fn passes_on_by_either(&mut self, port: u16) -> Result<()> {
        self.answers(port, PRIMARY, &["10.0.0.1"]).await?;
        for (silent, moved) in [(0, "10.0.0.11"), (1, "10.0.0.12")] {
            self.responders[silent].freeze()?;
            for number in 0..30 {
                // A resolver library asks from a new socket each time, and again where no answer comes. None at
                // all is an error of dig's.
                let name = format!("x{silent}-{number}.ha.{ZONE}");
                let answer = dig_at("127.0.0.1", port, &[&name, "+time=10", "+tries=5"]);
                let answer = answer.with_context(|| format!("{name}: {}", self.logs()))?;
                ensure!(answer.contains("status: NXDOMAIN"), "{name}: {answer}");
            }
            put(&self.consul, "members/n1", &member_at(moved, "primary")).await?;
            self.answers(port, PRIMARY, &[moved]).await?;
            self.responders[silent].thaw()?;
        }
        delete(&self.consul, "members/n3").await?;
        put(&self.consul, "members/n4", &member(4, "replica")).await?;
        self.answers(port, "replica.ha.pg.test", &["10.0.0.2", "10.0.0.4"]).await
    }

    /// What every forwarder must do: pass answers on, forget them in time, and not take a "no" of one
    /// kind for a "no" of another; also while Consul is away.
    async fn passes_on(&mut self, port: u16) -> Result<()> {
        self.answers(port, PRIMARY, &["10.0.0.1"]).await?;
        self.answers(port, "replica.ha.pg.test", &["10.0.0.2", "10.0.0.3"]).await?;
        let srv = dig(port, &["_postgresql._tcp.primary.ha.pg.test", "SRV", "+short"])?;
        ensure!(srv.trim() == "0 1 5432 n1.ha.pg.test.", "{srv}");
        ensure!(dig(port, &[PRIMARY, "AAAA"])?.contains("status: NOERROR"), "AAAA");
        ensure!(dig(port, &["nobody.ha.pg.test"])?.contains("status: NXDOMAIN"), "NXDOMAIN");
        self.answers(port, PRIMARY, &["10.0.0.1"]).await?;
        lead(&self.consul, 2).await?;
        self.answers(port, PRIMARY, &["10.0.0.2"]).await?;
        self.consul.kill();
        self.answers(port, PRIMARY, &["10.0.0.2"]).await?;
        self.answers(port, "n3.ha.pg.test", &["10.0.0.3"]).await
    }
}

fn dig(port: u16, arguments: &[&str]) -> Result<String> {
    dig_at("127.0.0.1", port, &[arguments, &["+time=2"]].concat())
}

fn dig_at(server: &str, port: u16, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("dig");
    command.args([&format!("@{server}"), "-p", &port.to_string(), "+tries=1"]).args(arguments);
    run_program(&mut command)
}

/// Not every user has the directories of system programs on the path.
fn find(program: &str) -> PathBuf {
    let here = Path::new("/usr/sbin").join(program);
    if here.exists() { here } else { program.into() }
}

fn member(number: u8, role: &str) -> Value {
    member_at(&format!("10.0.0.{number}"), role)
}

fn member_at(address: &str, role: &str) -> Value {
    json!({
        "conn_url": format!("postgres://{address}:5432/postgres"),
        "api_url": format!("http://{address}:8008/patroni"),
        "state": "running", "role": role, "timeline": 1, "replay_lsn": 1000,
    })
}

async fn put(consul: &Consul, key: &str, value: &Value) -> Result<()> {
    let url = consul.url(&format!("/v1/kv/service/ha/{key}"));
    ensure!(Rest::new()?.call("PUT", &url, Some(value)).await?.ok(), "{key}");
    Ok(())
}

async fn delete(consul: &Consul, key: &str) -> Result<()> {
    let url = consul.url(&format!("/v1/kv/service/ha/{key}"));
    ensure!(Rest::new()?.call("DELETE", &url, None).await?.ok(), "{key}");
    Ok(())
}

/// A lease that lasts longer than the test.
async fn lead(consul: &Consul, number: u8) -> Result<()> {
    let lease = json!({"holder": format!("n{number}"), "term": number, "ttl_ms": 3_600_000,
                       "beat": 1, "state": "held"});
    put(consul, "status", &json!({"optime": 1000, "lease": lease})).await
}

/// A free port for UDP and TCP, as far as one can know.
fn port() -> Result<u16> {
    loop {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let port = udp.local_addr()?.port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

#[tokio::test]
async fn behind_dnsmasq() -> Result<()> {
    let (mut served, port) = (Served::start().await?, port()?);
    let _dnsmasq = dnsmasq(&served, port)?;
    served.passes_on(port).await
}

#[tokio::test]
async fn behind_dnsmasq_with_two() -> Result<()> {
    let (mut served, port) = (Served::with_two().await?, port()?);
    let _dnsmasq = dnsmasq(&served, port)?;
    served.passes_on_by_either(port).await
}

fn dnsmasq(served: &Served, port: u16) -> Result<Process> {
    let more = format!("port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\n");
    let file = served.file("dns-dnsmasq", "", &more)?;
    let user = if hart_testkit::is_root() { "root".to_owned() } else { String::new() };
    let arguments = ["--keep-in-foreground", "--log-facility=-", "--pid-file=", "--no-hosts"];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.push(format!("--conf-file={}", file.display()));
    if !user.is_empty() {
        arguments.push(format!("--user={user}"));
    }
    served.run("dnsmasq", &arguments)
}

#[tokio::test]
async fn behind_unbound() -> Result<()> {
    let (mut served, port) = (Served::start().await?, port()?);
    let _unbound = unbound(&served, port)?;
    served.passes_on(port).await
}

#[tokio::test]
async fn behind_unbound_with_two() -> Result<()> {
    let (mut served, port) = (Served::with_two().await?, port()?);
    let _unbound = unbound(&served, port)?;
    served.passes_on_by_either(port).await
}

fn unbound(served: &Served, port: u16) -> Result<Process> {
    let before = format!(
        "server:\n    interface: 127.0.0.1\n    port: {port}\n    do-daemonize: no\n    \
         chroot: \"\"\n    username: \"\"\n    pidfile: \"\"\n    use-syslog: no\n    \
         directory: \"{}\"\n",
        served.dir.path().display()
    );
    let file = served.file("dns-unbound", &before, "")?;
    served.run("unbound", &["-d".into(), "-c".into(), file.display().to_string()])
}

#[tokio::test]
async fn behind_bind() -> Result<()> {
    let (mut served, port) = (Served::start().await?, port()?);
    let before = format!(
        "options {{\n    directory \"{}\";\n    listen-on port {port} {{ 127.0.0.1; }};\n    \
         listen-on-v6 {{ none; }};\n    pid-file none;\n    session-keyfile none;\n    \
         recursion yes;\n    validate-except {{ \"{ZONE}\"; }};\n}};\ncontrols {{ }};\n",
        served.dir.path().display()
    );
    let file = served.file("dns-bind", &before, "")?;
    let _named = served.run("named", &["-g".into(), "-c".into(), file.display().to_string()])?;
    served.passes_on(port).await
}

/// Consul's own DNS, with the responder as its recursor.
#[tokio::test]
async fn behind_consul() -> Result<()> {
    let (mut served, port) = (Served::start().await?, port()?);
    let file = served.file("dns-consul", "", "")?;
    // Consul tells the format by the name.
    let hcl = file.with_extension("hcl");
    fs::rename(&file, &hcl)?;
    let ports = hart_testkit::free_ports(3)?;
    let [http, rpc, serf] = [ports[0], ports[1], ports[2]].map(|port| port.to_string());
    let arguments = [
        "agent",
        "-dev",
        "-bind=127.0.0.1",
        "-client=127.0.0.1",
        "-serf-wan-port=-1",
        "-grpc-port=-1",
        "-http-port",
        &http,
        "-server-port",
        &rpc,
        "-serf-lan-port",
        &serf,
        "-dns-port",
        &port.to_string(),
        "-config-file",
        hcl.to_str().context("a path")?,
    ];
    let _consul = served.run("consul", &arguments.map(str::to_owned))?;
    served.passes_on(port).await
}

/// HAProxy resolves by itself: who moves or is replaced has its new place there, and the former one is
/// given up; also where the first responder is silent.
#[tokio::test]
async fn behind_haproxy() -> Result<()> {
    let served = Served::with_two().await?;
    // Its checks go to loopback, where nobody listens.
    for number in 1..=3 {
        let role = if number == 1 { "primary" } else { "replica" };
        let member = member_at(&format!("127.0.1.{number}"), role);
        put(&served.consul, &format!("members/n{number}"), &member).await?;
    }
    let socket = served.dir.path().join("haproxy.sock");
    let _haproxy = haproxy(&served, &socket)?;
    leads_to(&served, &socket, &["127.0.1.1", "127.0.1.2", "127.0.1.3"]).await?;

    put(&served.consul, "members/n1", &member_at("127.0.1.11", "primary")).await?;
    leads_to(&served, &socket, &["127.0.1.11", "127.0.1.2", "127.0.1.3"]).await?;

    served.responders[0].freeze()?;
    delete(&served.consul, "members/n3").await?;
    put(&served.consul, "members/n4", &member_at("127.0.1.4", "replica")).await?;
    leads_to(&served, &socket, &["127.0.1.11", "127.0.1.2", "127.0.1.4"]).await?;

    served.responders[0].thaw()?;
    served.responders[1].freeze()?;
    put(&served.consul, "members/n2", &member_at("127.0.1.12", "replica")).await?;
    leads_to(&served, &socket, &["127.0.1.11", "127.0.1.12", "127.0.1.4"]).await?;

    // What was valid stays, and HAProxy starts to know better as soon as one answers.
    served.responders[0].freeze()?;
    put(&served.consul, "members/n2", &member_at("127.0.1.22", "replica")).await?;
    served.responders[1].thaw()?;
    leads_to(&served, &socket, &["127.0.1.11", "127.0.1.22", "127.0.1.4"]).await?;
    served.responders[0].thaw()
}

fn haproxy(served: &Served, socket: &Path) -> Result<Process> {
    let ports = hart_testkit::free_ports(3)?;
    let mut command = Command::new(hart_binary()?);
    command.args(["-d", &format!("consul://{}", served.consul.address())]);
    command.args(["template", "haproxy-dns", "ha"]);
    for set in [
        format!("zone={ZONE}"),
        format!("dns=127.0.0.1:{port}, 127.0.0.2:{port}", port = served.port),
        format!("socket={}", socket.display()),
        "bind=127.0.0.1".to_owned(),
        format!("rw_port={}", ports[0]),
        format!("ro_port={}", ports[1]),
        format!("stats=127.0.0.1:{}", ports[2]),
    ] {
        command.args(["--set", &set]);
    }
    let text = run_program(&mut command)?;
    // Whoever runs the tests may have no right to become another user.
    let own = |line: &&str| !matches!(line.trim(), "user haproxy" | "group haproxy");
    let text: Vec<&str> = text.lines().filter(own).collect();
    let file = served.dir.path().join("haproxy.cfg");
    fs::write(&file, text.join("\n") + "\n")?;
    served.run("haproxy", &["-db".into(), "-f".into(), file.display().to_string()])
}

/// Waits until HAProxy has these addresses for the servers that write, each once, and no other.
async fn leads_to(served: &Served, socket: &Path, expected: &[&str]) -> Result<()> {
    eventually(&format!("HAProxy to lead to {expected:?}"), DEADLINE, async || {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"show servers state hart_primary\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        // be_id be_name srv_id srv_name srv_addr …; "-" is a free place.
        let rows = text.lines().filter(|line| line.contains(" hart_primary "));
        let mut found: Vec<&str> = rows.filter_map(|line| line.split(' ').nth(4)).collect();
        found.retain(|address| *address != "-");
        found.sort_unstable();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
    .with_context(|| served.logs())
}
