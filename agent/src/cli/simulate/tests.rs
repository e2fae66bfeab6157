//! Clusters made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Parser;
use hart_ha::lease::challenger_wait;
use hart_ha::lsn::Lsn;
use hart_ha::store::{RawEntry, Snapshot};
use serde_json::json;

use super::SimulateArgs;
use super::fault::Fault;
use super::look::Look;
use super::outcome::{Outcome, of};
use super::show::render;
use crate::api::observe::{Left, Observed, SeenSql};
use crate::cli::cluster::tests::made;
use crate::cli::formats::Format;

const END: u64 = 0x500_0000;
const TTL: Duration = Duration::from_secs(3);

/// `n1` leads; the others stream from it, so many bytes behind.
fn cluster(config: &serde_json::Value, sync: Option<&str>, lags: &[(&str, u64)]) -> Look {
    let mut entries = vec![
        ("initialize".to_owned(), "7301234567890123456".to_owned(), None),
        ("config".to_owned(), config.to_string(), None),
        ("leader".to_owned(), "n1".to_owned(), Some("session-n1")),
        (
            "status".to_owned(),
            json!({"optime": END, "lease": {"holder": "n1", "instance": "i-n1", "term": 4,
                "ttl_ms": TTL.as_millis() as u64, "beat": 9, "state": "held"}})
            .to_string(),
            None,
        ),
    ];
    let names: Vec<&str> =
        std::iter::once("n1").chain(lags.iter().map(|(name, _)| *name)).collect();
    let urls: BTreeMap<_, _> =
        names.iter().map(|n| (n, format!("http://{n}:8008/patroni"))).collect();
    entries.push(("failsafe".to_owned(), json!(urls).to_string(), None));
    if let Some(standby) = sync {
        let value = json!({"leader": "n1", "quorum": 0, "sync_standby": standby});
        entries.push(("sync".to_owned(), value.to_string(), None));
    }
    let sessions: BTreeMap<_, _> = names.iter().map(|n| (*n, format!("session-{n}"))).collect();
    for name in &names {
        let role = if *name == "n1" { "primary" } else { "replica" };
        let member = json!({
            "conn_url": format!("postgres://{name}:5432/postgres"), "api_url": urls[name],
            "state": "running", "role": role, "timeline": 2, "timeline_terms": {"1": 1, "2": 4},
            "instance": format!("i-{name}"), "hart": "0.1.0", "version": "4.1.0",
        });
        entries.push((format!("members/{name}"), member.to_string(), Some(&sessions[name])));
    }
    let raw = entries.iter().map(|(key, value, session)| RawEntry {
        key,
        value: value.as_bytes(),
        index: 7,
        session: *session,
    });
    let (snapshot, problems) = Snapshot::read(raw);
    assert_eq!(problems, []);
    let standbys: Vec<_> = lags
        .iter()
        .map(|(name, lag)| {
            ((*name).to_owned(), true, sync.is_some_and(|s| s.contains(name)), Lsn(END - lag))
        })
        .collect();
    let mut members = BTreeMap::from([("n1".to_owned(), primary(standbys, sync))]);
    for (name, lag) in lags {
        members.insert((*name).to_owned(), replica(name, *lag));
    }
    Look { scope: "ha".into(), snapshot, members, silent: BTreeMap::new(), wal_rate: 1000 }
}

fn seen(name: &str) -> Observed {
    Observed {
        member: name.into(),
        instance: format!("i-{name}"),
        consul_reachable: true,
        system_id: Some("7301234567890123456".into()),
        running: true,
        term: 4,
        origins: [(1, 1), (2, 4)].into(),
        ..Observed::default()
    }
}

fn primary(standbys: Vec<(String, bool, bool, Lsn)>, sync: Option<&str>) -> Observed {
    let names = |names: &str| names.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
    let sql = SeenSql {
        timeline: 2,
        write_lsn: Lsn(END),
        standbys,
        waits: sync.is_some(),
        ..SeenSql::default()
    };
    let left = Some(Left { term: 4, left_ms: 2000 });
    let waits_for = sync.map(|sync| (sync.len(), names(sync), Lsn(END)));
    Observed { lease: left, armed: left, sql: Some(sql), waits_for, ..seen("n1") }
}

fn replica(name: &str, lag: u64) -> Observed {
    let at = Lsn(END - lag);
    let sql = SeenSql {
        in_recovery: true,
        timeline: 2,
        receive_lsn: at,
        replay_lsn: at,
        streaming: true,
        ..SeenSql::default()
    };
    Observed { sql: Some(sql), upstream: Some(("n1".into(), "n1".into(), 5432)), ..seen(name) }
}

fn asynchronous() -> serde_json::Value {
    json!({"ttl": 3, "loop_wait": 1, "failsafe_mode": true, "postgresql": {"use_pg_rewind": true}})
}

fn synchronous(strict: bool) -> serde_json::Value {
    let mut config = asynchronous();
    config["synchronous_mode"] = json!(true);
    config["synchronous_mode_strict"] = json!(strict);
    config
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(look: &Look, fault: &Fault, outcome: &Outcome) -> String {
    render(look, fault, outcome, Format::Pretty)
}

#[test]
fn nothing_happens_without_a_fault() {
    let look = cluster(&asynchronous(), None, &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::None);
    assert_eq!(outcome.after.as_deref(), Some("n1"), "{outcome:#?}");
    assert_eq!((outcome.outage, outcome.overlap), (Duration::ZERO, false));
    assert!(outcome.loss.nothing);
}

#[test]
fn the_better_replica_follows_a_lost_leader_when_the_lease_is_over() {
    let look = cluster(&asynchronous(), None, &[("n2", 4096), ("n3", 256)]);
    let fault = Fault::Lose(set(&["n1"]));
    let outcome = of(&look, &fault);
    assert_eq!(outcome.after.as_deref(), Some("n3"), "{outcome:#?}");
    assert!(!outcome.overlap);
    let wait = challenger_wait(TTL);
    assert!(outcome.outage >= wait && outcome.outage < wait + Duration::from_secs(1));
    assert_eq!((outcome.loss.nothing, outcome.loss.behind_bytes), (false, 256));
    assert_eq!(outcome.loss.written_on_bytes, 0, "a lost host writes nothing");
    assert!(outcome.happened.iter().any(|it| it.node == "n2" && it.what == "streams from n3"));
    let text = text(&look, &fault, &outcome);
    assert!(text.starts_with("If n1 was lost now:\n  n3 leads in place of n1.\n"), "{text}");
    assert!(text.contains("256 bytes of WAL that n3 has not received"), "{text}");
}

#[test]
fn a_partitioned_leader_is_fenced_before_another_leads() {
    let look = cluster(&asynchronous(), None, &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::Partition(set(&["n1"])));
    // Who is cut off asks for its lease all the time: that is one line.
    let asks = outcome.happened.iter().filter(|it| it.node == "n1" && it.what.starts_with("asks "));
    assert!(asks.count() <= 3, "{outcome:#?}");
    assert_eq!((outcome.after.as_deref(), outcome.overlap), (Some("n2"), false), "{outcome:#?}");
    let old = outcome.open.iter().find(|open| open.node == "n1").unwrap();
    let new = outcome.open.iter().find(|open| open.node == "n2").unwrap();
    assert!(old.to.unwrap() < new.from);
    assert!(outcome.loss.written_on_bytes > 0, "it writes on until it is fenced");
}

#[test]
fn a_lost_replica_changes_nothing() {
    let look = cluster(&asynchronous(), None, &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::Lose(set(&["n3"])));
    assert_eq!((outcome.after.as_deref(), outcome.outage), (Some("n1"), Duration::ZERO));
}

#[test]
fn in_synchronous_mode_only_the_published_standby_leads_and_nothing_is_lost() {
    let look = cluster(&synchronous(false), Some("n3"), &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::Lose(set(&["n1"])));
    assert_eq!(outcome.after.as_deref(), Some("n3"), "{outcome:#?}");
    assert!(outcome.loss.nothing);
    let both = of(&look, &Fault::Lose(set(&["n1", "n3"])));
    assert_eq!(both.after, None, "{both:#?}");
    let refusal = &both.refusals["n2"];
    assert_eq!(refusal.rule, "sync");
    let text = text(&look, &Fault::Lose(set(&["n1", "n3"])), &both);
    assert!(
        text.contains("n2 may not lead: the published synchronous set is n1, n3 (rule: sync)"),
        "{text}"
    );
}

#[test]
fn a_replica_too_far_behind_is_refused_with_the_value() {
    let look = cluster(&asynchronous(), None, &[("n2", 3 << 20)]);
    let outcome = of(&look, &Fault::Lose(set(&["n1"])));
    assert_eq!((outcome.after, outcome.refusals["n2"].rule.as_str()), (None, "lag"));
}

#[test]
fn without_consul_all_members_keep_the_leader() {
    let look = cluster(&asynchronous(), None, &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::ConsulDown);
    assert_eq!(
        (outcome.after.as_deref(), outcome.outage),
        (Some("n1"), Duration::ZERO),
        "{outcome:#?}"
    );
    assert!(outcome.happened.iter().any(|it| it.what.contains("failsafe")), "{outcome:#?}");
    let mut off = asynchronous();
    off["failsafe_mode"] = json!(false);
    let look = cluster(&off, None, &[("n2", 0), ("n3", 0)]);
    let outcome = of(&look, &Fault::ConsulDown);
    assert_eq!(outcome.after, None, "{outcome:#?}");
    let closed = outcome.open[0].to.unwrap();
    assert!(closed < TTL && closed > TTL / 2, "{closed:?}");
}

#[test]
fn machines_get_numbers() {
    let look = cluster(&asynchronous(), None, &[("n2", 256)]);
    let fault = Fault::Lose(set(&["n1"]));
    let outcome = of(&look, &fault);
    let json: serde_json::Value =
        serde_json::from_str(&render(&look, &fault, &outcome, Format::Json)).unwrap();
    assert_eq!(
        (json["leader_after"].as_str(), json["two_writable"].as_bool()),
        (Some("n2"), Some(false))
    );
    assert_eq!(json["loss"]["behind_bytes"], 256);
    let tsv = render(&look, &fault, &outcome, Format::Tsv);
    assert!(tsv.starts_with("After\tMember\tWhat\n"), "{tsv}");
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

#[test]
fn the_fault_is_checked() {
    let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.args);
    for wrong in
        ["simulate", "simulate --lose n1 --consul-down", "simulate --lose n1 --partition n2"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let fault = |line: &str| Fault::of(&parse(line).unwrap(), &made());
    assert_eq!(fault("simulate --lose n1,n2").unwrap(), Fault::Lose(set(&["n1", "n2"])));
    assert_eq!(fault("simulate --consul-down").unwrap(), Fault::ConsulDown);
    let unknown = fault("simulate --partition n9").unwrap_err().to_string();
    assert!(unknown.contains("n9") && unknown.contains("n1, n2, n3"), "{unknown}");
}
