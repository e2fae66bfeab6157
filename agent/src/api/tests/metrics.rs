//! What Prometheus is told, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::kv::{State, Tags};
use hart_ha::observation::{LeaseStanding, Local, Observation, Trouble};

use super::{Node, View, primary, replica, snapshot};
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
            assert!(matches!(kind, "gauge" | "counter" | "summary"), "{line}");
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
        let family = name.trim_end_matches("_sum").trim_end_matches("_count");
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
    assert_eq!(scrape.kinds["patroni_xlog_location"], "counter");
    assert_eq!(scrape.kinds["hart_loop_seconds"], "summary");
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
