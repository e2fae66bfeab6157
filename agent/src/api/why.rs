//! `GET /why`: may this node lead, and if not, why not; what keeps it from streaming; whom must be
//! waited for.

use axum::response::Response;
use hart_ha::brain::{Refusal, Verdict};
use hart_ha::kv::{Role, State, SynchronousMode};
use hart_ha::lease::{challenger_wait, margin};
use hart_ha::observation::Observation;
use hart_ha::time::Time;
use serde::{Deserialize, Serialize};

use super::reply::{self, StatusCode};
use crate::node::view::{Handle, View};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Why {
    /// The node.
    pub member: String,
    /// `leads`, `may lead` or `may not lead`.
    pub verdict: String,
    /// The rule that forbids it.
    pub refusal: Option<Refusal>,
    /// What the node is doing.
    pub phase: String,
    /// PostgreSQL's role.
    pub role: String,
    /// PostgreSQL's state.
    pub state: String,
    /// Why a replica gets no WAL; empty where it does.
    pub not_streaming: String,
    /// What must be waited for before anything changes, each in a sentence.
    pub waits_for: Vec<String>,
    /// Why the last request for a switchover or failover was given up here.
    pub refused: Option<String>,
    /// Does Consul answer?
    pub consul_reachable: bool,
    /// What is wrong with the settings; the node runs without them.
    pub complaint: Option<String>,
    /// What is installed and does not run yet, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Of a member that is lost: what is kept for it elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// While PostgreSQL is down: file, line and words of the last FATAL or PANIC in its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What this node threw away when it came back as a former primary, in a sentence.
    pub lost: Option<String>,
}

pub(super) async fn get(handle: &Handle, view: &View) -> Response {
    let mut why = of(handle, view, hart_clock::now());
    if view.sql.is_none() {
        why.log = log_line(crate::node::log_file(&handle.file)).await;
    }
    match serde_json::to_value(why) {
        Ok(value) => reply::json(StatusCode::OK, &value),
        Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn of(handle: &Handle, view: &View, now: Time) -> Why {
    let (verdict, refusal) = match &view.verdict {
        Verdict::Leads if view.hold.is_some_and(|hold| now < hold.deadline) => ("leads", None),
        Verdict::Leads | Verdict::MayLead => match bound(view, now) {
            None => ("may lead", None),
            Some(refusal) => ("may not lead", Some(refusal)),
        },
        Verdict::MayNot(refusal) => ("may not lead", Some(explain(refusal, view))),
    };
    let lost = handle.journal.lost().and_then(|data| serde_json::from_value(data).ok());
    Why {
        member: handle.file.name.clone(),
        verdict: verdict.to_owned(),
        refusal,
        phase: view.phase.clone(),
        role: view.role.to_string(),
        state: view.state.to_string(),
        not_streaming: not_streaming(view),
        waits_for: waits_for(&handle.file.name, view, now),
        refused: view.refused.clone(),
        consul_reachable: view.store_reachable,
        complaint: view.observation.as_ref().and_then(|seen| seen.local.complaint.clone()),
        installed: installed(handle, view),
        slot: None,
        log: None,
        lost: lost.map(|lost: crate::journal::lost::Lost| lost.sentence()),
    }
}

/// A disk that hangs keeps the rest of the answer from nobody.
async fn log_line(path: std::path::PathBuf) -> Option<String> {
    const READ: std::time::Duration = std::time::Duration::from_millis(500);
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || hart_postgres::words::last_fatal(&path));
    let (line, text) = tokio::time::timeout(READ, read).await.ok()?.ok()?.ok()??;
    Some(format!("{shown}, line {line}: {text}"))
}

fn installed(handle: &Handle, view: &View) -> Option<String> {
    let (found, runs) = (handle.installed(), env!("CARGO_PKG_VERSION"));
    let dotted = |number: u32| format!("{}.{}", number / 10_000, number % 10_000);
    let hart = found
        .hart
        .map(|it| format!("hart {it}, and {runs} runs: `hart upgrade-agent` replaces it"));
    let guard = found
        .guard
        .filter(|guard| guard != runs)
        .map(|guard| format!("the guard is of hart {guard} until PostgreSQL's next restart"));
    let server = view.probe.as_ref().map(|probe| probe.server_version);
    let postgres = found.postgres.zip(server).filter(|(there, runs)| there != runs);
    let postgres = postgres.map(|(there, runs)| {
        let (there, runs) = (dotted(there), dotted(runs));
        format!("PostgreSQL {there}, and {runs} runs until its next restart")
    });
    let all: Vec<String> = [hart, guard, postgres].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// A promise that binds this node, and that its holder has not ended.
fn bound(view: &View, now: Time) -> Option<Refusal> {
    let given = view.observation.as_ref()?.lease.promised.as_ref();
    let promise = given.filter(|promise| now < promise.until)?;
    let lease = view.snapshot.as_ref().and_then(|keys| keys.lease()?.given_up());
    if lease.is_some_and(|(holder, term)| holder == promise.holder && term >= promise.term) {
        return None;
    }
    let left = now.until(promise.until).as_secs_f64().ceil();
    let (holder, term) = (&promise.holder, promise.term);
    Some(Refusal {
        rule: "promise".to_owned(),
        value: format!("promised to {holder} in term {term} for {left} s more (failsafe)"),
        remedy: format!("it ends by itself when {holder} no longer asks for it, or hands over"),
    })
}

/// The brain's words, with what only the rest of the view knows.
fn explain(refusal: &Refusal, view: &View) -> Refusal {
    let mut refusal = refusal.clone();
    match refusal.rule.as_str() {
        "lag" => {
            let sql = view.sql.as_ref();
            let end = view.snapshot.as_ref().and_then(|s| s.status.as_ref()?.value.optime);
            if let (Some(sql), Some(end)) = (sql, end) {
                let lag = size(end.bytes_since(sql.position()));
                let limit = size(view.config.maximum_lag_on_failover);
                refusal.value = format!("replication lag {lag} > maximum_lag_on_failover {limit}");
            }
            refusal.remedy =
                "wait until it has caught up, or raise maximum_lag_on_failover, or name \
                              it with `hart failover --candidate`"
                    .to_owned();
        }
        "running" | "data" => {
            let doing = if view.phase.is_empty() { "nothing" } else { view.phase.as_str() };
            let percent = view.progress.map(|p| format!(", {p} % done")).unwrap_or_default();
            refusal.value = format!(
                "{}; PostgreSQL's state is \"{}\", the node is: {doing}{percent}",
                refusal.value, view.state
            );
        }
        _ => {}
    }
    refusal
}

fn not_streaming(view: &View) -> String {
    if view.role != Role::Replica {
        return String::new();
    }
    let Some(observation) = view.observation.as_deref() else { return String::new() };
    let Some(sql) = &view.sql else {
        return format!("PostgreSQL does not answer; its state is \"{}\"", view.state);
    };
    if sql.streaming || !sql.in_recovery {
        return String::new();
    }
    let upstream = observation.local.upstream.as_ref();
    let Some(upstream) = upstream else {
        return "it has nobody to follow: no leader was seen since it was started".to_owned();
    };
    let leader = view.snapshot.as_ref().and_then(|s| s.leader_name());
    let problem = match leader.and_then(|name| view.snapshot.as_ref()?.member(name)) {
        _ if leader.is_none() => "nobody leads".to_owned(),
        _ if sql.rests.is_some() => {
            let rests = sql.rests.map(|rests| rests.to_string()).unwrap_or_default();
            format!("nothing comes from {}: {rests}", upstream.name)
        }
        None => format!("{} has no member entry in Consul", leader.unwrap_or("the leader")),
        Some(entry) if entry.state != State::Running => {
            format!("PostgreSQL of {} is \"{}\"", upstream.name, entry.state)
        }
        Some(_) => format!(
            "{} at {}:{} sends nothing; PostgreSQL's log beside the data directory says why (network, \
             pg_hba.conf, password, or WAL that is gone)",
            upstream.name, upstream.host, upstream.port
        ),
    };
    format!("{problem}; the node is: {}", view.phase)
}

/// Sentences about what this node cannot hurry.
fn waits_for(name: &str, view: &View, now: Time) -> Vec<String> {
    let mut list = Vec::new();
    let Some(snapshot) = view.snapshot.as_deref() else {
        list.push("Consul, which has not answered since the agent began".to_owned());
        return list;
    };
    if !view.store_reachable {
        let silent = now.since(view.store_arrived).as_secs();
        list.push(format!("Consul, which does not answer (last word {silent} s ago)"));
    }
    if let Some(lease) = snapshot.lease().filter(|lease| lease.is_held() && lease.holder != name) {
        list.push(format!(
            "{}, which holds the lease of term {}: it may be taken over when it has been silent for \
             {:.1} s",
            lease.holder,
            lease.term,
            challenger_wait(lease.ttl()).as_secs_f64()
        ));
    }
    list.extend(kill_waits(view, now));
    if view.config.pause {
        list.push("a person: the cluster is paused, nobody takes over by itself".to_owned());
    }
    if let Some(observation) = view.observation.as_deref() {
        list.extend(sync_waits(name, view, observation));
    }
    list
}

/// A kill that does not get done, and when the lease ends that is kept for nobody.
fn kill_waits(view: &View, now: Time) -> Option<String> {
    let kill = view.observation.as_deref()?.local.killing.as_ref()?;
    if now < kill.since + margin(view.config.ttl) {
        return None;
    }
    let hold = view.hold.filter(|hold| now < hold.deadline);
    let lease = hold.map_or("it holds no lease".to_owned(), |hold| {
        let left = now.until(hold.deadline).as_secs_f64();
        format!("the lease is no longer renewed, and ends in {left:.1} s")
    });
    Some(format!("the end of PostgreSQL, which has been killed: {}; {lease}", kill.left))
}

/// In synchronous mode: whom commits wait for.
fn sync_waits(name: &str, view: &View, observation: &Observation) -> Option<String> {
    if view.role != Role::Primary || view.config.synchronous_mode == SynchronousMode::Off {
        return None;
    }
    let published = observation.store.snapshot.as_ref()?.sync.as_ref()?.value.clone();
    let standbys: Vec<_> = published.standbys().into_iter().collect();
    let mine = published.leader.as_deref() == Some(name);
    match (mine, standbys.is_empty(), view.config.synchronous_mode_strict) {
        (true, true, true) => {
            Some("a synchronous standby: in strict mode commits wait until there is one".to_owned())
        }
        (true, true, false) => {
            Some("a synchronous standby; until there is one commits wait for nobody".to_owned())
        }
        (true, false, _) if published.quorum > 0 => {
            let need = standbys.len().saturating_sub(published.quorum as usize);
            Some(format!("any {need} of {}, at each commit", standbys.join(", ")))
        }
        (true, false, _) => Some(format!("{}, at each commit", standbys.join(", "))),
        (false, ..) => Some("its own entry in the key `sync`".to_owned()),
    }
}

/// Bytes for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut rest = bytes;
    let mut tenths = 0;
    while rest >= 1024 && unit + 1 < UNITS.len() {
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        unit += 1;
    }
    if tenths == 0 || rest >= 10 {
        format!("{rest} {}", UNITS[unit])
    } else {
        format!("{rest}.{tenths} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(12 << 20), "12 MB");
        assert_eq!(size(1_572_864), "1.5 MB");
        assert_eq!(size(u64::MAX), "16777215 TB");
    }
}
