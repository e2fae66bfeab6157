//! What must be so of the three nodes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::package::Made;
use crate::roots::Machine;

/// How long anything may take; what is not so by then is not so.
const LONG: Duration = Duration::from_secs(120);

/// What takes the right to raise limits, as the guard calls it.
const LIMITS: [&str; 3] = ["mlock", "oom", "realtime"];

pub(super) struct Cluster<'a> {
    nodes: Vec<&'a Machine>,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(machines: &'a [Machine]) -> Result<Self> {
        let nodes: Vec<_> =
            machines.iter().filter(|machine| machine.name.starts_with("node")).collect();
        ensure!(nodes.len() >= 3, "there are {} nodes, three are needed", nodes.len());
        Ok(Self { nodes })
    }

    /// One primary and replicas that stream, one of them synchronous; answers the primary.
    pub(super) fn is_whole(&self, within: Duration) -> Result<&'a Machine> {
        let at = self.nodes[0];
        let shown =
            at.wait("hart list -f json", within, |text| is_whole(text, self.nodes.len()))?;
        let leader = members(&shown)?.into_iter().find(|(_, role)| role == "Leader");
        let (name, _) = leader.context("nobody leads")?;
        self.node(&name)
    }

    fn node(&self, name: &str) -> Result<&'a Machine> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.copied().with_context(|| format!("there is no machine {name}"))
    }

    /// The example of the package, with this machine's addresses in it, is fit for a node.
    pub(super) fn has_a_good_example(&self, meta: &Machine) -> Result<()> {
        let fill_in = "sed \"s/10\\.0\\.0\\.21/$(hostname -I | cut -d' ' -f1)/\" /etc/hart/node.yml.example > /etc/hart/n1.yml; \
                       sed 's/=$/=x/' /etc/hart/node.env.example > /etc/hart/n1.env; \
                       set -a; . /etc/hart/n1.env; hart check /etc/hart/n1.yml";
        let said = meta.shell(fill_in)?;
        let last = said.lines().last().unwrap_or_default();
        println!("the package's example, filled in: hart check says {last}");
        Ok(())
    }

    /// With the package's unit nothing of the guard's is missing but what this computer lets nobody have.
    pub(super) fn has_its_guards(&self) -> Result<()> {
        let limited = !may_raise_limits(&fs::read_to_string("/proc/self/status")?);
        let cannot = if limited { LIMITS.as_slice() } else { &[] };
        for node in &self.nodes {
            let ask = "curl --silent http://$(hostname -I | cut -d' ' -f1):8008/patroni";
            let text = node.shell(ask)?;
            let status: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            let guard = &status["hart"]["guard"];
            let missing =
                guard["missing"].as_array().with_context(|| format!("no guard: {text}"))?;
            let lacks = |layer: &&Value| !cannot.iter().any(|name| *layer == name);
            let lacks: Vec<_> = missing.iter().filter(lacks).collect();
            ensure!(lacks.is_empty(), "{}: the guard lacks {lacks:?} under the unit", node.name);
        }
        println!(
            "each guard has its layers under the hardened unit, without {cannot:?} of this computer"
        );
        Ok(())
    }

    pub(super) fn answers_dns(&self) -> Result<()> {
        let leader = self.is_whole(LONG)?;
        let own = leader.shell("hostname -I")?;
        let own = own.split_whitespace().next().context("no address")?.to_owned();
        for node in &self.nodes {
            let ask =
                "dig +short +time=2 +tries=1 @$(hostname -I | cut -d' ' -f1) primary.ha.pg.test";
            node.wait(ask, LONG, |said| said.trim() == own)?;
            let consul = "dig +short +time=2 +tries=1 -p 8600 @127.0.0.1 primary.ha.service.consul";
            node.wait(consul, LONG, |said| said.trim() == own)?;
        }
        println!(
            "primary.ha.pg.test and Consul's primary.ha.service.consul are {own} on every node"
        );
        Ok(())
    }

    pub(super) fn switches_over(&self) -> Result<()> {
        let before = self.is_whole(LONG)?;
        before.shell("su postgres -c \"psql -qc 'CREATE TABLE kept AS SELECT 1 AS one'\"")?;
        before.show("hart switchover --force")?;
        let after = self.is_whole(LONG)?;
        ensure!(after.name != before.name, "{} leads before and after the switchover", before.name);
        let kept = after.shell("su postgres -c \"psql -Atc 'SELECT one FROM kept'\"")?;
        ensure!(kept.trim() == "1", "the new primary has not what was committed before: {kept:?}");
        self.answers_dns()
    }

    /// The agent is killed under systemd: PostgreSQL runs on, in the mount namespace of the first start.
    pub(super) fn survives_its_agents(&self) -> Result<()> {
        let leader = self.is_whole(LONG)?;
        for node in &self.nodes {
            let before = postmaster(node)?;
            self.change_agent(node)?;
            ensure!(postmaster(node)? == before, "{}: PostgreSQL is another one", node.name);
        }
        let same = self.is_whole(LONG)?;
        ensure!(same.name == leader.name, "{} led, and now {} does", leader.name, same.name);
        println!("agents were killed and replaced by systemd; each PostgreSQL is the same process");
        Ok(())
    }

    /// As README.Debian says.
    fn change_agent(&self, node: &Machine) -> Result<()> {
        let main = "systemctl show --property=MainPID --value hart@$(hostname)";
        let before = node.shell(main)?;
        node.shell("systemctl kill --kill-whom=main --signal=KILL hart@$(hostname)")?;
        let other = |now: &str| now != before && now.trim() != "0";
        node.wait(main, LONG, other)?;
        node.wait("systemctl is-active hart@$(hostname) || true", LONG, |said| {
            said.trim() == "active"
        })?;
        self.is_whole(LONG).map(drop)
    }

    /// The new package alone changes nothing that runs, and then the agents one by one.
    pub(super) fn does_not_notice_an_upgrade(&self, second: &Made) -> Result<()> {
        let leader = self.is_whole(LONG)?;
        let running = |node: &Machine| {
            Ok::<_, anyhow::Error>((
                postmaster(node)?,
                node.shell("systemctl show --property=MainPID --value hart@$(hostname)")?,
            ))
        };
        for node in &self.nodes {
            let before = running(node)?;
            fs::copy(&second.deb, node.root.join("var/tmp/hart/hart.deb"))?;
            node.show("dpkg --install /var/tmp/hart/hart.deb")?;
            node.shell("dpkg-query -W -f '${Version}' hart | grep -q -- '-2$'")?;
            ensure!(
                running(node)? == before,
                "{}: something is another process after the upgrade",
                node.name
            );
            self.change_agent(node)?;
            ensure!(postmaster(node)? == before.0, "{}: PostgreSQL is another one", node.name);
        }
        ensure!(self.is_whole(LONG)?.name == leader.name, "the upgrade has changed the primary");
        println!(
            "the package was upgraded on all nodes; PostgreSQL did not notice, {} leads on",
            leader.name
        );
        Ok(())
    }

    pub(super) fn outlives_the_package(&self) -> Result<()> {
        let leader = self.is_whole(LONG)?;
        let before = postmaster(leader)?;
        leader.show("dpkg --purge hart")?;
        ensure!(postmaster(leader)? == before, "{}: PostgreSQL is another one", leader.name);
        let other = self.nodes.iter().find(|node| node.name != leader.name).context("one node")?;
        let leads = |text: &str| {
            let named = |(name, role): &(String, String)| *name == leader.name && role == "Leader";
            members(text).is_ok_and(|members| members.iter().any(named))
        };
        other.wait("hart list -f json", LONG, leads)?;
        leader.shell("test -d /var/lib/hart/$(hostname)/data")?;
        println!("purged from {}: its PostgreSQL leads on, and its data are there", leader.name);
        // An agent whose program is gone can still be stopped in good order: the role is handed over.
        leader.shell("systemctl stop hart@$(hostname)")?;
        ensure!(postmaster(leader).is_err(), "PostgreSQL outlived its agent");
        other.wait("hart list -f json", LONG, |text| {
            let leads = |(name, role): &(String, String)| *name != leader.name && role == "Leader";
            members(text).is_ok_and(|members| members.iter().any(leads))
        })?;
        println!("stopped there afterwards: another node leads");
        Ok(())
    }
}

/// Whether root has `CAP_SYS_RESOURCE` here: a sandbox around this computer may have taken it away.
fn may_raise_limits(status: &str) -> bool {
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = bounding.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << 24) != 0)
}

fn members(text: &str) -> Result<Vec<(String, String)>> {
    let rows: Vec<Value> =
        serde_json::from_str(text).with_context(|| format!("hart list: {text:?}"))?;
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (word(row, "Member"), word(row, "Role"))).collect())
}

fn is_whole(text: &str, nodes: usize) -> bool {
    let rows: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let count = |key: &str, value: &str| rows.iter().filter(|row| row[key] == value).count();
    rows.len() == nodes
        && count("Role", "Leader") == 1
        && count("State", "streaming") == nodes - 1
        && count("Role", "Sync Standby") == 1
}

fn postmaster(node: &Machine) -> Result<String> {
    node.shell("head -1 /var/lib/hart/$(hostname)/data/postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_raise_limits_is_read() {
        assert!(may_raise_limits("Name: x\nCapBnd:\t000001ffffffffff\n"));
        assert!(!may_raise_limits("CapBnd:\t000001fffeffffff\n"));
        assert!(!may_raise_limits(""));
    }

    #[test]
    fn a_whole_cluster_has_one_leader_and_streaming_replicas() {
        let row = |name: &str, role: &str, state: &str| {
            format!(r#"{{"Member":"{name}","Role":"{role}","State":"{state}"}}"#)
        };
        let list = |rows: &[String]| format!("[{}]", rows.join(","));
        let (one, two) = (row("n1", "Leader", "running"), row("n2", "Sync Standby", "streaming"));
        let three = row("n3", "Replica", "streaming");
        assert!(is_whole(&list(&[one.clone(), two.clone(), three.clone()]), 3));
        assert!(!is_whole(&list(&[one.clone(), two.clone()]), 3));
        assert!(!is_whole(&list(&[one.clone(), two.clone(), row("n3", "Replica", "starting")]), 3));
        assert!(!is_whole(&list(&[three.clone(), two, three]), 3));
        assert!(!is_whole("oops", 3));
        assert_eq!(members(&list(&[one])).expect("read"), [("n1".to_owned(), "Leader".to_owned())]);
    }
}
