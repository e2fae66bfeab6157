//! `hart dns` behind each resolver that the distribution has, with the file of `hart template`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, run_program};
use hart_testkit::{Consul, Process, Rest, TempDir, eventually, free_port, hart_binary};
use serde_json::{Value, json};

const ZONE: &str = "pg.test";
const PRIMARY: &str = "primary.ha.pg.test";

/// Consul with the keys of a cluster whose nodes are not here, and `hart dns`.
struct Served {
    consul: Consul,
    dir: TempDir,
    port: u16,
    _dns: Process,
}

impl Served {
    async fn start() -> Result<Self> {
        let (consul, dir) = (Consul::on_loopback().await?, TempDir::new()?);
        for (number, role) in [(1, "primary"), (2, "replica"), (3, "replica")] {
            put(&consul, &format!("members/n{number}"), &member(number, role)).await?;
        }
        lead(&consul, 1).await?;
        put(&consul, "initialize", &json!("1")).await?;
        let port = free_port()?;
        let mut command = Command::new(hart_binary()?);
        let listen = format!("127.0.0.1:{port}");
        command.args(["dns", "--zone", ZONE, "--listen", &listen, "--consul", &consul.address()]);
        // Consul as a recursor asks it for everything.
        command.args(["--forward", "127.0.0.1:1"]).env("NO_COLOR", "1");
        let dns = Process::start(&mut command, &dir.path().join("dns.log"))?;
        let served = Self { consul, dir, port, _dns: dns };
        served.answers(port, PRIMARY, &["10.0.0.1"]).await?;
        Ok(served)
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
        eventually(&format!("{name} at {port} to be {expected:?}"), DEADLINE, async || {
            let found = dig(port, &[name, "+short"])?;
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
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port.to_string(), "+time=2", "+tries=1"]).args(arguments);
    run_program(&mut command)
}

/// Not every user has the directories of system programs on the path.
fn find(program: &str) -> PathBuf {
    let here = Path::new("/usr/sbin").join(program);
    if here.exists() { here } else { program.into() }
}

fn member(number: u8, role: &str) -> Value {
    json!({
        "conn_url": format!("postgres://10.0.0.{number}:5432/postgres"),
        "api_url": format!("http://10.0.0.{number}:8008/patroni"),
        "state": "running", "role": role, "timeline": 1, "replay_lsn": 1000,
    })
}

async fn put(consul: &Consul, key: &str, value: &Value) -> Result<()> {
    let url = consul.url(&format!("/v1/kv/service/ha/{key}"));
    ensure!(Rest::new()?.call("PUT", &url, Some(value)).await?.ok(), "{key}");
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
    let more = format!("port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\n");
    let file = served.file("dns-dnsmasq", "", &more)?;
    let user = if hart_testkit::is_root() { "root".to_owned() } else { String::new() };
    let arguments = ["--keep-in-foreground", "--log-facility=-", "--pid-file=", "--no-hosts"];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.push(format!("--conf-file={}", file.display()));
    if !user.is_empty() {
        arguments.push(format!("--user={user}"));
    }
    let _dnsmasq = served.run("dnsmasq", &arguments)?;
    served.passes_on(port).await
}

#[tokio::test]
async fn behind_unbound() -> Result<()> {
    let (mut served, port) = (Served::start().await?, port()?);
    let before = format!(
        "server:\n    interface: 127.0.0.1\n    port: {port}\n    do-daemonize: no\n    \
         chroot: \"\"\n    username: \"\"\n    pidfile: \"\"\n    use-syslog: no\n    \
         directory: \"{}\"\n",
        served.dir.path().display()
    );
    let file = served.file("dns-unbound", &before, "")?;
    let _unbound =
        served.run("unbound", &["-d".into(), "-c".into(), file.display().to_string()])?;
    served.passes_on(port).await
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
