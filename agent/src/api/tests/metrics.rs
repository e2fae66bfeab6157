//! What Prometheus is told, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::kv::{State, Tags};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{LeaseStanding, Local, Observation, Trouble};
use hart_postgres::{Probe, StandbyRow};

use super::{Node, View, config, primary, replica, snapshot, status};
use crate::journal::{Event, Kind};
use crate::node::counters::Cause;

/// Type of each family, and value of each sample by its name and labels.
struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(node: &Node) -> Self {
        let answer = node.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let mut scrape = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        answer.body.lines().for_each(|line| scrape.line(line));
        assert!(answer.body.ends_with('\n'));
        scrape
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "gauge" | "counter" | "histogram"), "{line}");
            assert_eq!(self.kinds.insert(name.to_owned(), kind.to_owned()), None, "twice: {line}");
            return;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !self.kinds.contains_key(name), "{line}");
            return;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        let family = ["_sum", "_count", "_bucket"]
            .iter()
            .fold(name, |name, suffix| name.trim_end_matches(suffix));
        assert!(self.kinds.contains_key(family), "no type before {line}");
        let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(self.samples.insert(sample.to_owned(), value), None, "twice: {line}");
    }

    fn get(&self, name: &str) -> f64 {
        self.with(name, "")
    }

    fn with(&self, name: &str, labels: &str) -> f64 {
        let sample = format!("{name}{{scope=\"demo\",name=\"n1\"{labels}}}");
        *self.samples.get(&sample).unwrap_or_else(|| panic!("no {sample}"))
    }
}

/// All that Patroni has, by version 4.1.
const PATRONI: [&str; 27] = [
    "patroni_version",
    "patroni_postgres_running",
    "patroni_postmaster_start_time",
    "patroni_postgres_timeline",
    "patroni_postgres_server_version",
    "patroni_postgres_state",
    "patroni_primary",
    "patroni_standby_leader",
    "patroni_replica",
    "patroni_sync_standby",
    "patroni_quorum_standby",
    "patroni_xlog_location",
    "patroni_xlog_received_location",
    "patroni_xlog_replayed_location",
    "patroni_xlog_replayed_timestamp",
    "patroni_xlog_paused",
    "patroni_postgres_streaming",
    "patroni_postgres_in_archive_recovery",
    "patroni_cluster_unlocked",
    "patroni_failsafe_mode_is_active",
    "patroni_failsafe_mode_enabled",
    "patroni_failsafe_member",
    "patroni_dcs_last_seen",
    "patroni_pending_restart",
    "patroni_is_paused",
    "patroni_failover_priority",
    "hart_term",
];

#[tokio::test]
async fn a_primary_is_told_in_patronis_names() {
    let list = [("leader", "n1"), ("failsafe", r#"{"n1":"http://n1"}"#)];
    let view = View { term: 3, snapshot: Some(snapshot(&list)), ..primary() };
    let node = Node::new(view);
    let scrape = Scrape::of(&node).await;
    for name in PATRONI {
        scrape.get(name);
    }
    let values = |names: &[&str]| names.iter().map(|name| scrape.get(name)).collect::<Vec<_>>();
    assert_eq!(
        values(&["patroni_primary", "patroni_replica", "patroni_cluster_unlocked"]),
        [1.0, 0.0, 0.0]
    );
    assert_eq!(
        values(&["patroni_xlog_location", "patroni_postgres_state", "hart_term"]),
        [1000.0, 5.0, 3.0]
    );
    assert_eq!(values(&["patroni_version", "patroni_failsafe_member"]), [40100.0, 1.0]);
    assert_eq!(scrape.kinds["patroni_xlog_location"], "gauge");
    assert_eq!(scrape.kinds["hart_loop_seconds"], "histogram");
    let left = scrape.get("hart_lease_left_seconds");
    assert!((3000.0..=3600.0).contains(&left), "{left}");
    assert!(!scrape.samples.keys().any(|name| name.starts_with("hart_dns")), "no responder here");
}

#[tokio::test]
async fn a_replica_is_told_with_what_is_wrong() {
    let what = "it takes no connections".to_owned();
    let trouble = Some(Trouble { since: hart_clock::now(), what, silent: true });
    let local = Local { trouble, ..Local::default() };
    let lease = LeaseStanding { by_promises: true, ..LeaseStanding::default() };
    let observation = Observation { local, lease, ..Observation::default() };
    let tags = Tags { nofailover: true, ..Tags::default() };
    let view = View { observation: Some(Arc::new(observation)), tags, ..replica() };
    let scrape = Scrape::of(&Node::new(view)).await;
    for (name, value) in [
        ("patroni_primary", 0.0),
        ("patroni_replica", 1.0),
        ("patroni_postgres_streaming", 1.0),
        ("patroni_xlog_received_location", 950.0),
        ("patroni_xlog_replayed_location", 900.0),
        ("patroni_xlog_location", 0.0),
        ("patroni_failover_priority", 0.0),
        ("patroni_failsafe_mode_is_active", 1.0),
        ("hart_postgres_sick", 1.0),
        ("hart_lease_left_seconds", 0.0),
    ] {
        assert!((scrape.get(name) - value).abs() < f64::EPSILON, "{name}");
    }
}

/// What alerts compare with: the ttl, what commits shall wait for, and the WAL that slots keep.
#[tokio::test]
async fn what_alerts_need_is_told() {
    let view = View {
        config: config(r#"{"ttl":5,"synchronous_mode":"quorum"}"#),
        probe: Some(Arc::new(status::probe(false))),
        ..primary()
    };
    let scrape = Scrape::of(&Node::new(view)).await;
    let told = ["hart_lease_ttl_seconds", "hart_synchronous_mode"].map(|name| scrape.get(name));
    assert_eq!(told, [5.0, 2.0]);
    let kept = scrape.with("hart_slot_retained_bytes", ",slot=\"n2\"");
    assert!((kept - 16_777_216.0).abs() < f64::EPSILON, "{kept}");
    let without_tls = "hart_certificate_expires_timestamp_seconds";
    assert!(!scrape.kinds.contains_key(without_tls));
    let modes = ["false", "true"].map(|mode| format!(r#"{{"synchronous_mode":{mode}}}"#));
    for (mode, expected) in modes.iter().zip([0.0, 1.0]) {
        let scrape = Scrape::of(&Node::new(View { config: config(mode), ..primary() })).await;
        assert!((scrape.get("hart_synchronous_mode") - expected).abs() < f64::EPSILON, "{mode}");
    }
}

/// What a primary knows of each replica, and what each slot keeps.
#[tokio::test]
async fn a_primary_tells_who_streams_and_how_far_each_is_behind() {
    let row = |name: &str, state: &str, flush, replay| StandbyRow {
        application_name: Some(name.to_owned()),
        state: Some(state.to_owned()),
        flush_lsn: Some(Lsn(flush)),
        replay_lsn: Some(Lsn(replay)),
        ..serde_json::from_value(serde_json::json!({"pid": 1})).unwrap()
    };
    let standbys = vec![
        row("n2", "streaming", 900, 700),
        row("n2", "streaming", 400, 400),
        row("n3", "catchup", 1, 1),
        row("copy", "backup", 1, 1),
    ];
    let probe = Probe { standbys, write_lsn: Some(Lsn(1000)), ..status::probe(false) };
    let scrape = Scrape::of(&Node::new(View { probe: Some(Arc::new(probe)), ..primary() })).await;
    let lag = |name: &str, wal: &str| {
        scrape.with("hart_replica_lag_bytes", &format!(",replica=\"{name}\",wal=\"{wal}\""))
    };
    let told =
        [scrape.get("hart_streaming_replicas"), lag("n2", "received"), lag("n2", "replayed")];
    assert_eq!(told, [2.0, 100.0, 300.0]);
    assert!(!scrape.samples.keys().any(|sample| sample.contains("replica=\"n3\"")));
    let replica = Scrape::of(&Node::new(replica())).await;
    assert!(!replica.kinds.contains_key("hart_streaming_replicas"), "it knows of none");
}

/// Prometheus' own rules for names and types.
#[tokio::test]
async fn promtool_finds_nothing_to_mend() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no promtool (Debian package prometheus)");
        return;
    }
    let view = View { probe: Some(Arc::new(status::probe(false))), ..primary() };
    let node = Node::new(view);
    node.handle.counters.turns.took(Duration::from_millis(3));
    let text = node.get("/metrics").await.body;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut promtool = promtool.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Alerts and dashboards of `templates/` speak of nothing that `/metrics` has not.
#[tokio::test]
async fn alerts_and_dashboards_speak_of_metrics_that_there_are() {
    const TEXTS: [&str; 3] = [
        include_str!("../../../../templates/prometheus/hart.rules.yml"),
        include_str!("../../../../templates/grafana/hart-fleet.json"),
        include_str!("../../../../templates/grafana/hart-cluster.json"),
    ];
    let view = View { probe: Some(Arc::new(status::probe(false))), ..primary() };
    let scrape = Scrape::of(&Node::new(view)).await;
    let names = TEXTS.iter().flat_map(|text| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("patroni_") || word.starts_with("hart_"))
    });
    let known = |name: &str| {
        let family = ["_sum", "_count", "_bucket"]
            .iter()
            .fold(name, |name, suffix| name.trim_end_matches(suffix));
        // Only with HTTPS; another test has it.
        family == "hart_certificate_expires_timestamp_seconds" || scrape.kinds.contains_key(family)
    };
    let (found, strange): (Vec<_>, Vec<_>) = names.partition(|name| known(name));
    assert_eq!(strange, [""; 0]);
    assert!(found.len() > 40, "{found:?}");
}

#[tokio::test]
async fn what_was_counted_is_told() {
    let node = Node::new(View { state: State::Stopped, sql: None, ..replica() });
    let counters = &node.handle.counters;
    counters.turns.took(Duration::from_millis(1500));
    counters.turns.took(Duration::from_millis(500));
    counters.asked::<_, ()>(&counters.lease, Duration::from_millis(250), &Ok(()));
    counters.asked::<(), _>(&counters.session, Duration::from_millis(250), &Err(()));
    counters.took_over(Cause::Expired);
    node.handle.journal.add(Event::new(Kind::FenceBegun, "x"));
    let scrape = Scrape::of(&node).await;
    let lease = ",request=\"lease\"";
    for (name, labels, value) in [
        ("hart_loop_seconds_sum", "", 2.0),
        ("hart_loop_seconds_count", "", 2.0),
        ("hart_consul_request_seconds_sum", lease, 0.25),
        ("hart_consul_request_seconds_count", lease, 1.0),
        ("hart_consul_request_seconds_count", ",request=\"session\"", 0.0),
        ("hart_consul_errors_total", "", 1.0),
        ("hart_takeovers_total", ",cause=\"expired\"", 1.0),
        ("hart_takeovers_total", ",cause=\"released\"", 0.0),
        ("hart_events_total", ",kind=\"fence_begun\"", 1.0),
        ("patroni_postgres_running", "", 0.0),
        ("patroni_postgres_state", "", 12.0),
    ] {
        assert!((scrape.with(name, labels) - value).abs() < f64::EPSILON, "{name}{labels}");
    }
}
