//! What only the members themselves know.

use crate::cli::cluster::Cluster;
use crate::cli::list::heard::Heard;
use crate::node::status::{Own, PeerStatus};

/// One member's own words; empty where it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Milliseconds until its lease ends.
    pub lease_left_ms: Option<u64>,
    /// Is the guard armed, and which layers of fencing are there?
    pub fencing: String,
    /// Name and version of the agent.
    pub agent: String,
}

/// What each said, in the order of names.
pub fn all(heard: &Heard, cluster: &Cluster) -> Vec<Extended> {
    let members = cluster.snapshot.members.iter();
    members.map(|(name, member)| read(heard.status(name), &member.value.hart)).collect()
}

fn read(status: Option<&PeerStatus>, version: &str) -> Extended {
    let Some(status) = status else {
        return Extended { agent: "does not answer".to_owned(), ..Extended::default() };
    };
    let agent = match version {
        "" => format!("Patroni {}", status.patroni.version.as_deref().unwrap_or("?")),
        version => format!("hart {version}{}", others(status, version)),
    };
    let word = status.hart.as_ref().map(|own| &own.word);
    let lease_left_ms = word.and_then(|word| Some(word.lease.as_ref()?.left_ms));
    Extended {
        lease_left_ms,
        fencing: status.hart.as_ref().map(fencing).unwrap_or_default(),
        agent,
    }
}

/// What is installed and does not run yet, and a guard of another version.
fn others(status: &PeerStatus, runs: &str) -> String {
    let Some(own) = &status.hart else { return String::new() };
    let guard = own.guard.as_ref().and_then(|guard| guard.version.as_ref());
    let guard = guard.filter(|guard| *guard != runs).map(|guard| format!("; guard: {guard}"));
    let installed = own.installed.as_ref().map(|version| format!("; installed: {version}"));
    [guard, installed].into_iter().flatten().collect()
}

/// `armed: cgroup, mlock; not: realtime` or, on a node that does not lead, `ready: …`; empty where
/// no guard runs.
fn fencing(own: &Own) -> String {
    let Some(guard) = &own.guard else { return String::new() };
    let armed = match &own.word.armed {
        Some(armed) if armed.left_ms >= super::view::ENDLESS_MS => "no deadline (pause)",
        Some(_) => "armed",
        None => "ready",
    };
    let (there, missing) = (guard.layers.join(", "), guard.missing.join(", "));
    let missing = if missing.is_empty() { missing } else { format!("; not: {missing}") };
    format!("{armed}: {there}{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::tests::running;
    use crate::node::status::{Guard, Who};
    use crate::node::word::Deadline;

    #[test]
    fn a_silent_member_is_shown_as_such() {
        assert_eq!(read(None, "0.1.0").agent, "does not answer");
    }

    #[test]
    fn the_layers_of_the_guard_are_named() {
        let mut status = running();
        let own = status.hart.as_mut().unwrap();
        own.word.lease = Some(Deadline { term: 4, left_ms: 2149 });
        own.word.armed = own.word.lease.clone();
        let names = |names: [&str; 2]| names.map(str::to_owned).into();
        let (layers, missing) = (names(["child-kill", "pdeathsig"]), names(["cgroup", "mlock"]));
        own.installed = Some("0.2.0".into());
        let version = Some("0.0.9".into());
        own.guard = Some(Guard { version, layers, missing, ..Guard::default() });
        let expected = Extended {
            lease_left_ms: Some(2149),
            fencing: "armed: child-kill, pdeathsig; not: cgroup, mlock".into(),
            agent: "hart 0.1.0; guard: 0.0.9; installed: 0.2.0".into(),
        };
        assert_eq!(read(Some(&status), "0.1.0"), expected);
    }

    #[test]
    fn a_patroni_has_no_guard() {
        let patroni = Who { version: Some("4.1.0".into()), ..Who::default() };
        let said = read(Some(&PeerStatus { hart: None, patroni, ..running() }), "");
        assert_eq!(said, Extended { agent: "Patroni 4.1.0".into(), ..Extended::default() });
    }
}
