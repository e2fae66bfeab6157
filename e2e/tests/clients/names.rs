//! DNS from the agents and from `hart dns`, asked with `dig`.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::ways::Ways;
use hart_testkit::{Options, eventually};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PRIMARY: &str = "primary.ha.pg.test";

/// A cluster whose names are asked for.
struct Names {
    ways: Ways,
}

impl Names {
    async fn start() -> Result<Self> {
        Ok(Self { ways: Ways::start(&Options::default(), DEADLINE).await? })
    }

    /// Address of a node.
    fn of(&self, node: &str) -> Result<String> {
        Ok(self.ways.cluster.node(node)?.config().address.to_string())
    }

    /// The responders: `hart dns` on the client's host, and the agents of these nodes.
    fn responders(&self, nodes: &[&str]) -> Result<Vec<(Ipv4Addr, u16)>> {
        let agents = nodes.iter().map(|n| Ok((self.ways.cluster.node(n)?.config().address, 53)));
        std::iter::once(Ok((HERE, 5353))).chain(agents).collect()
    }

    async fn names_only(&self, responders: &[(Ipv4Addr, u16)], node: &str) -> Result<()> {
        let expected = vec![self.of(node)?];
        for (server, port) in responders {
            eventually(&format!("{server}:{port} to name {node}"), DEADLINE, async || {
                let found = self.ways.dig(*server, *port, &[PRIMARY])?;
                ensure!(found == expected, "{found:?}, not {expected:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn is_primary(&self, node: &str) -> bool {
        let answer = self.ways.cluster.rest(node, "GET", "/primary", None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

#[tokio::test]
async fn every_name_is_answered_by_agents_and_alone() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let names = Names::start().await?;
    let primary = names.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let [first, second] = ["n1", "n2", "n3"]
        .into_iter()
        .filter(|name| *name != primary)
        .collect::<Vec<_>>()
        .try_into()
        .ok()
        .context("two others")?;
    let replicas = sorted([names.of(first)?, names.of(second)?]);
    let all = sorted([names.of("n1")?, names.of("n2")?, names.of("n3")?]);
    let one = vec![names.of(&primary)?];
    for (server, port) in names.responders(&["n1", "n2", "n3"])? {
        let dig = |arguments: &[&str]| names.ways.dig(server, port, arguments);
        let expect = async |arguments: &[&str], expected: &[String]| {
            eventually(&format!("{server}:{port} {arguments:?}"), DEADLINE, async || {
                let found = dig(arguments)?;
                ensure!(found == expected, "{found:?}, not {expected:?}");
                Ok(())
            })
            .await
        };
        expect(&[PRIMARY], &one).await?;
        expect(&["PriMARY.ha.PG.test", "+tcp"], &one).await?;
        expect(&["ha.pg.test"], &one).await?;
        expect(&["replica.ha.pg.test"], &replicas).await?;
        expect(&["any.ha.pg.test"], &all).await?;
        expect(&["proxy.ha.pg.test"], &all).await?;
        expect(&["n2.ha.pg.test"], &[names.of("n2")?]).await?;
        expect(&[PRIMARY, "AAAA"], &[]).await?;
        let srv = format!("0 1 5432 {primary}.ha.pg.test.");
        expect(&["_postgresql._tcp.primary.ha.pg.test", "SRV"], &[srv]).await?;
        let text = dig(&[PRIMARY, "TXT"])?.concat();
        ensure!(text.contains("role=primary") && text.contains("timeline=1"), "{text}");
        ensure!(dig(&["pg.test", "NS"])? == ["ns.pg.test."], "NS");
        ensure!(dig(&["pg.test", "SOA"])?.concat().starts_with("ns.pg.test. "), "SOA");
        // With its header: nobody, and another zone.
        let header = |name: &str| anyhow::Ok(dig(&[name, "+all"])?.join("\n"));
        for (name, status) in [("nobody.ha.pg.test", "NXDOMAIN"), ("example.org", "REFUSED")] {
            let text = header(name)?;
            ensure!(text.contains(&format!("status: {status}")), "{text}");
        }
    }
    let metrics = counters(&names)?;
    for word in ["answered", "nxdomain", "nodata", "refused", "tcp"] {
        let line = format!("hart_dns_packets_total{{what=\"{word}\"}} ");
        let count = metrics.lines().find_map(|l| l.strip_prefix(&line)).context(line.clone())?;
        ensure!(count != "0", "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_switchover_changes_the_name() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let names = Names::start().await?;
    let old = names.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let responders = names.responders(&["n1", "n2", "n3"])?;
    names.names_only(&responders, &old).await?;
    let heir = ["n1", "n2", "n3"].into_iter().find(|name| *name != old).context("another")?;
    names.ways.cluster.switchover(Some(heir)).await?;
    names.names_only(&responders, heir).await
}

/// From the moment at which another node may be written to, no responder names the old one.
#[tokio::test]
async fn a_lost_primary_is_not_named_after_its_lease() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut names = Names::start().await?;
    let old = names.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let address = names.of(&old)?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|n| *n != old).collect();
    let responders = names.responders(&others)?;
    names.names_only(&responders, &old).await?;
    names.ways.cluster.kill_node(&old)?;
    let mut rounds = 0;
    let asked = async {
        while rounds < 20 {
            let mut new = None;
            for name in &others {
                if names.is_primary(name).await {
                    new = Some(names.of(name)?);
                }
            }
            for (server, port) in &responders {
                let found = names.ways.dig(*server, *port, &[PRIMARY])?;
                if let Some(new) = &new {
                    ensure!(!found.contains(&address), "{server} names {address} beside {new}");
                    rounds += usize::from(found == [new.as_str()]);
                }
                ensure!(found.len() <= 1, "{server}: two primaries, {found:?}");
            }
        }
        Ok(())
    };
    let asked = tokio::time::timeout(DEADLINE, asked).await;
    asked.with_context(|| names.ways.cluster.logs())??;
    Ok(())
}

/// Consul is away, and then the primary is lost, too: nobody can take its lease, and its name ends.
#[tokio::test]
async fn without_consul_a_primary_is_named_for_as_long_as_it_leads() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut names = Names::start().await?;
    let primary = names.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|n| *n != primary).collect();
    let responders = names.responders(&others)?;
    names.names_only(&responders, &primary).await?;
    names.ways.cluster.kill_consul();
    // Much longer than a lease.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    for (server, port) in &responders {
        let found = names.ways.dig(*server, *port, &[PRIMARY])?;
        ensure!(found == [names.of(&primary)?], "{server}: {found:?}");
        let replicas = names.ways.dig(*server, *port, &["replica.ha.pg.test"])?;
        ensure!(replicas.len() == 2, "{server}: {replicas:?}");
    }
    names.ways.cluster.kill_node(&primary)?;
    for (server, port) in &responders {
        eventually(&format!("{server}:{port} to name nobody"), DEADLINE, async || {
            let found = names.ways.dig(*server, *port, &[PRIMARY])?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// What `hart dns --metrics` serves on the client's host.
fn counters(names: &Names) -> Result<String> {
    let get = "exec 3<>/dev/tcp/127.0.0.1/9153; \
               printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let output = names.ways.client().output(Command::new("bash").args(["-c", get]))?;
    Ok(String::from_utf8(output.stdout)?)
}

fn sorted<const N: usize>(mut all: [String; N]) -> Vec<String> {
    all.sort();
    all.into()
}
