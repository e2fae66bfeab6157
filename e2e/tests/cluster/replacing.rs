//! An agent gives way to another binary, and PostgreSQL does not notice.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, Rest, eventually, hart_binary};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Each node runs a binary of its own, which can be replaced.
pub(crate) fn own_binaries(cluster: &mut Cluster) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dir = cluster.dir().make("binaries", "root")?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(cluster.dir().path(), fs::Permissions::from_mode(0o755))?;
    for name in NODES {
        let path = binary(cluster, name);
        fs::copy(hart_binary()?, &path)?;
        cluster.node_mut(name)?.set_binary(&path);
    }
    Ok(())
}

pub(crate) fn binary(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.dir().path().join("binaries").join(name)
}

/// As a package does it: another file under the same name. `more` makes it another one.
pub(crate) fn install(path: &Path, program: &Path, more: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::copy(program, &new)?;
    fs::OpenOptions::new().append(true).open(&new)?.write_all(more)?;
    Ok(fs::rename(&new, path)?)
}

pub(crate) async fn status(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.rest(name, "GET", "/patroni", None).await?.json()
}

/// Waits until the agent has seen that another binary was installed.
pub(crate) async fn sees_installed(cluster: &Cluster, name: &str) -> Result<()> {
    eventually("the new binary is seen", DEADLINE, async || {
        let own = &status(cluster, name).await?["hart"];
        ensure!(own["installed"].is_string(), "{own}");
        Ok(())
    })
    .await
}

/// Three nodes with a virtual address, and a DNS server at a port of root's.
async fn with_roots_things() -> Result<(Drill, Ipv4Addr)> {
    let options = Options::default().dcs("synchronous_mode", true);
    let mut cluster = Cluster::prepare(3, &options).await?;
    own_binaries(&mut cluster)?;
    let [a, b, c, _] = cluster.nodes()[0].host().context("a host")?.address().octets();
    let vip = Ipv4Addr::new(a, b, c, 200);
    for name in NODES {
        let node = cluster.node_mut(name)?;
        let at = node.config().address;
        let text = node.config().render();
        let listen = format!("listen: \"{at},127.0.0.1:5432\"");
        ensure!(text.contains(&listen), "{text}");
        let text = text.replace(&listen, "listen: \"*:5432\"");
        let more = format!(
            "vip: {{interface: eth0, addresses: [{vip}/24]}}\n\
             dns: {{zone: pg.test, listen: '{at}:53'}}\n"
        );
        node.start_with(&format!("{text}{more}"))?;
    }
    let drill = Drill::around(cluster).await?;
    drill.synchronous_standby().await?;
    Ok((drill, vip))
}

fn has(cluster: &Cluster, node: &str, address: Ipv4Addr) -> Result<bool> {
    let host = cluster.node(node)?.host().context("a host")?;
    let shown = host.output(Command::new("ip").args(["-o", "address", "show", "dev", "eth0"]))?;
    Ok(String::from_utf8_lossy(&shown.stdout).contains(&format!("{address}/24")))
}

/// What a load balancer hears that asks all the time.
struct Checks {
    over: tokio::sync::oneshot::Sender<()>,
    asking: tokio::task::JoinHandle<Vec<u16>>,
}

impl Checks {
    fn start(url: String) -> Result<Self> {
        let rest = Rest::new()?;
        let (over, mut end) = tokio::sync::oneshot::channel();
        let asking = tokio::spawn(async move {
            let mut refused = Vec::new();
            while end.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                if let Ok(answer) = rest.get(&url).await
                    && !answer.ok()
                {
                    refused.push(answer.status);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            refused
        });
        Ok(Self { over, asking })
    }

    async fn finish(self) -> Result<Vec<u16>> {
        let _ = self.over.send(());
        Ok(self.asking.await?)
    }
}

#[tokio::test]
async fn agents_are_replaced_one_by_one_and_postgresql_goes_on() -> Result<()> {
    let (mut drill, vip) = with_roots_things().await?;
    let primary = drill.write_patiently().await?;
    eventually("the address to be on", DEADLINE, async || {
        ensure!(has(&drill.cluster, &primary, vip)?, "it is not");
        Ok(())
    })
    .await?;
    let postmasters = drill.postmasters()?;
    let mut agents = Vec::new();
    for name in NODES {
        agents.push(drill.cluster.node_mut(name)?.agent()?.id());
    }
    let term = status(&drill.cluster, &primary).await?["hart"]["term"].clone();
    for name in NODES {
        install(&binary(&drill.cluster, name), &hart_binary()?, b"another build")?;
        sees_installed(&drill.cluster, name).await?;
    }
    let versions = hart(&drill.cluster, &primary, &["version", "ha"])?;
    let runs = versions.split_whitespace().nth(2).context("a version")?.to_owned();
    ensure!(
        versions.matches(&format!("({runs} is installed), guard {runs}")).count() == 3,
        "{versions}"
    );
    let why = hart(&drill.cluster, &primary, &["why", "ha", &primary])?;
    ensure!(why.contains("hart upgrade-agent"), "{why}");

    let checks = Checks::start(drill.cluster.node(&primary)?.url("/primary"))?;
    let said = hart(&drill.cluster, &primary, &["upgrade-agent", "ha", "--force"])?;
    ensure!(said.matches("; PostgreSQL went on").count() == 3, "{said}\n{}", drill.logs());
    drill.written().await?;
    let refused = checks.finish().await?;
    ensure!(refused.is_empty(), "/primary said {refused:?}\n{}", drill.logs());
    ensure!(
        said.lines().last().is_some_and(|line| line.starts_with(&primary)),
        "the leader last: {said}"
    );
    drill.written().await?;
    drill.undisturbed()?;
    ensure!(drill.postmasters()? == postmasters, "a PostgreSQL was restarted\n{}", drill.logs());
    for (name, agent) in NODES.into_iter().zip(agents) {
        let node = drill.cluster.node_mut(name)?;
        ensure!(node.agent()?.id() == agent && node.agent_runs(), "{name}: another process");
        ensure!(node.log_contains("takes this agent's place"), "{}", node.log());
        let own = status(&drill.cluster, name).await?["hart"].clone();
        ensure!(own["installed"].is_null(), "{own}");
    }
    ensure!(status(&drill.cluster, &primary).await?["hart"]["term"] == term, "another term");
    for name in NODES {
        ensure!(
            has(&drill.cluster, name, vip)? == (name == primary),
            "{name}: {vip}\n{}",
            drill.logs()
        );
    }
    rolled_out(&drill, &primary).await?;
    ensure!(drill.postmasters()? == postmasters, "a PostgreSQL was restarted\n{}", drill.logs());
    // The right to the address, and the port of root's, outlive it: the next primary has them as well.
    drill.cluster.switchover(None).await?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    eventually("the address to follow", DEADLINE, async || {
        ensure!(has(&drill.cluster, &next, vip)?, "it is not at {next}");
        ensure!(!has(&drill.cluster, &primary, vip)?, "it is still at {primary}");
        Ok(())
    })
    .await?;
    for name in NODES {
        let log = drill.cluster.node(name)?.log();
        ensure!(log.matches("DNS answers for pg.test").count() == 3, "{log}");
    }
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

/// The same by `hart roll`.
async fn rolled_out(drill: &Drill, primary: &str) -> Result<()> {
    for name in NODES {
        install(&binary(&drill.cluster, name), &hart_binary()?, b"a third build")?;
        sees_installed(&drill.cluster, name).await?;
    }
    let said = hart(&drill.cluster, primary, &["roll", "ha", "--agents", "--force"])?;
    let lines: Vec<&str> =
        said.lines().filter(|line| line.contains("PostgreSQL went on")).collect();
    ensure!(lines.len() == 3 && lines[2].starts_with(primary), "{said}");
    drill.written().await?;
    drill.undisturbed()
}

/// Each refusal says why, and the agent that runs goes on.
#[tokio::test]
async fn a_binary_that_could_not_go_on_does_not_take_over() -> Result<()> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    own_binaries(&mut cluster)?;
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    let primary = drill.write_patiently().await?;
    let begun = status(&drill.cluster, &primary).await?["hart"]["begun"].clone();
    ensure!(begun.is_string(), "{begun}");
    let path = binary(&drill.cluster, &primary);
    let rest = Rest::with_deadline(DEADLINE)?;
    let url = drill.cluster.node(&primary)?.url("/upgrade");
    let script = drill.cluster.dir().write("no-hart", "root", "#!/bin/sh\necho I am a shell\n")?;
    let mut refused: Vec<String> = Vec::new();
    for case in ["no hart", "nothing", "a configuration that it does not take"] {
        match case {
            "no hart" => {
                fs::copy(&script, path.with_extension("new"))?;
                Command::new("chmod").arg("755").arg(path.with_extension("new")).status()?;
                fs::rename(path.with_extension("new"), &path)?;
            }
            "nothing" => fs::remove_file(&path)?,
            _ => {
                install(&path, &hart_binary()?, b"another build")?;
                let file = drill.cluster.node(&primary)?.config_file();
                let text = fs::read_to_string(&file)?;
                fs::write(
                    &file,
                    format!("{text}\ncolour: blue\nttl: no number\nname: 7\nname: 8\n"),
                )?;
            }
        }
        let answer = rest.call("POST", &url, Some(&json!({}))).await?;
        ensure!(answer.status == 503, "{case}: {} {}", answer.status, answer.text);
        refused.push(answer.text);
    }
    ensure!(
        refused[0].contains("is no hart") && refused[0].contains("I am a shell"),
        "{refused:?}"
    );
    ensure!(refused[1].contains("cannot be executed"), "{refused:?}");
    ensure!(refused[2].contains("hart.yml"), "{refused:?}");
    ensure!(status(&drill.cluster, &primary).await?["hart"]["begun"] == begun, "it was replaced");
    drill.written().await?;
    drill.undisturbed()?;

    // Mended; a signal does as well.
    let node = drill.cluster.node_mut(&primary)?;
    fs::write(node.config_file(), node.config().render())?;
    node.agent()?.signal(Signal::USR2)?;
    eventually("another run of the agent", DEADLINE, async || {
        let own = &status(&drill.cluster, &primary).await?["hart"];
        ensure!(own["begun"].is_string() && own["begun"] != begun, "{own}");
        Ok(())
    })
    .await
    .with_context(|| drill.logs())?;
    drill.written().await?;
    drill.undisturbed()?;
    drill.finish(Loss::None, &["the agent is not replaced"]).await?;
    Ok(())
}
