//! What people get wrong: each mistake is named, with what to do, and nothing is harmed.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Ended, owner_of, run_hart};
use hart_testkit::{Consul, LocalNode, Process, TempDir, eventually, free_port, hart_binary};

const USAGE: Option<i32> = Some(64);
const FAILED: Option<i32> = Some(1);
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

fn run(arguments: &[&str]) -> Result<Ended> {
    run_hart(&hart_binary()?, arguments, None, &TempDir::new()?)
}

#[track_caller]
fn said(ended: &Ended, code: Option<i32>, parts: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    let all = parts.iter().all(|part| ended.output.contains(part));
    assert!(all && !ended.output.contains("panicked"), "{parts:?}\n{}", ended.output);
}

#[test]
fn bad_names_and_addresses() -> Result<()> {
    let dns = |zone: &str, more: &[&str]| {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let start = ["dns", "--zone", zone, "--consul", NOWHERE, "--listen", &listen];
        run(&[&start[..], more].concat())
    };
    said(&dns("pg..test", &[])?, USAGE, &["dns.zone: \"pg..test\""]);
    said(&dns(&"x".repeat(64), &[])?, USAGE, &["dns.zone", "63"]);
    said(&dns("pg.test", &["--forward", "nowhere"])?, USAGE, &["\"nowhere\"", "10.0.0.2:53"]);
    said(&dns("pg.test", &["--proxy", "a b"])?, USAGE, &["dns.proxies", "a b"]);
    said(&dns("pg.test", &["--ttl", "soon"])?, USAGE, &["--ttl", "soon"]);
    let yaml = LocalNode::new("n1", NOWHERE)?.config().render() + "dns: {zone: pg..test}\n";
    let mut node = LocalNode::new("n1", NOWHERE)?;
    let (status, log) = node.run_to_end_with(&yaml, DEADLINE)?;
    ensure!(!status.success() && log.contains("dns.zone: \"pg..test\""), "{log}");
    ensure!(!node.data_dir().exists(), "{log}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_or_forbidden() -> Result<()> {
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let listen = taken.local_addr()?.to_string();
    let start = ["dns", "--zone", "pg.test", "--consul", NOWHERE, "--listen"];
    let ended = run(&[&start[..], &[&listen]].concat())?;
    let port = format!("uses port {}", taken.local_addr()?.port());
    said(&ended, FAILED, &[&listen, &port, "ss -lnptu"]);
    let ended = run(&[&start[..], &["192.0.2.1:5353"]].concat())?;
    said(&ended, FAILED, &["no interface of this machine has 192.0.2.1"]);
    if !hart_testkit::is_root() {
        eprintln!("not root: not asked whether others may use port 53");
        return Ok(());
    }
    // A copy, for another user may not be able to reach the original; on a host of its own, where
    // nothing else says who may use which port.
    let (dir, mut lab) = (TempDir::new()?, hart_testkit::Lab::new(0)?);
    let hart = dir.path().join("hart");
    fs::copy(hart_binary()?, &hart)?;
    let (uid, gid) = owner_of(&dir.make("own", "postgres")?)?;
    let mut command = Command::new(&hart);
    command.args(start).arg("127.0.0.1:53").env("NO_COLOR", "1").current_dir("/");
    std::os::unix::process::CommandExt::gid(&mut command, gid);
    std::os::unix::process::CommandExt::uid(&mut command, uid);
    let output = lab.add_host("n1")?.output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let parts = ["127.0.0.1:53", "CAP_NET_BIND_SERVICE", "setcap", "above 1024"];
    ensure!(parts.iter().all(|part| text.contains(part)), "{text}");
    Ok(())
}

#[test]
fn an_interface_that_is_not_there() -> Result<()> {
    let (node, dir) = (LocalNode::new("n1", NOWHERE)?, TempDir::new()?);
    let vip = "vip: {interface: nosuch0, addresses: [10.0.0.100/24]}\n";
    let file = dir.write("hart.yml", "postgres", &(node.config().render() + vip))?;
    let ended = run(&["check", file.to_str().context("a path")?])?;
    said(&ended, FAILED, &["no interface nosuch0", "may be one of"]);
    Ok(())
}

#[tokio::test]
async fn a_consul_that_is_away_is_waited_for() -> Result<()> {
    let (dir, port) = (TempDir::new()?, free_port()?);
    let mut command = Command::new(hart_binary()?);
    let listen = format!("127.0.0.1:{port}");
    command.args(["dns", "--zone", "pg.test", "--consul", NOWHERE, "--listen", &listen]);
    let dns = Process::start(command.env("NO_COLOR", "1"), &dir.path().join("log"))?;
    eventually("an answer", DEADLINE, async || {
        let mut dig = Command::new("dig");
        let port = port.to_string();
        dig.args(["@127.0.0.1", "-p", &port, "+time=2", "+tries=1", "primary.ha.pg.test"]);
        let text = String::from_utf8(dig.output()?.stdout)?;
        // Not NXDOMAIN: a resolver would believe that.
        ensure!(text.contains("status: SERVFAIL"), "{text}");
        Ok(())
    })
    .await?;
    let log = dns.log();
    ensure!(log.contains("Consul cannot be read, will keep trying"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_template_with_a_mistake_and_a_reload_that_fails() -> Result<()> {
    let (consul, dir) = (Consul::on_loopback().await?, TempDir::new()?);
    let path =
        |name: &str| anyhow::Ok(dir.path().join(name).to_str().context("a path")?.to_owned());
    let (own, file, consul) = (path("own")?, path("x.cfg")?, consul.address());
    fs::create_dir(&own)?;
    fs::write(dir.path().join("own/mine.conf"), "{{ scope }}\n{{ no_such }}\n")?;
    fs::write(dir.path().join("own/fine.conf"), "new for {{ scope }}\n")?;
    fs::write(&file, "old\n")?;
    let template = |name: &str, more: &[&str]| {
        let start = ["-d", &consul, "template", name, "ha", "--template-dir", &own];
        run(&[&start[..], &["--output", &file], more].concat())
    };
    let text = || fs::read_to_string(&file);

    said(&template("mine", &[])?, USAGE, &["mine.conf:2: unknown variable \"no_such\""]);
    said(&template("nothing", &[])?, USAGE, &["no template \"nothing\"", "haproxy"]);
    ensure!(text()? == "old\n", "nothing was written");
    let ended = template("fine", &["--exec", "echo the program is cross >&2; exit 3"])?;
    said(&ended, FAILED, &["exit status: 3", "the program is cross", "old file was put back"]);
    ensure!(text()? == "old\n", "it is back");
    said(&template("fine", &["--exec", "true"])?, Some(0), &[]);
    ensure!(text()? == "new for ha\n", "{}", text()?);
    Ok(())
}
