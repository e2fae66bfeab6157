//! `GET /metrics`: Patroni's names with Patroni's meanings, so that dashboards go on working, and
//! hart's own where Patroni has none. All of it is in memory.

mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::kv::{Role, State, SynchronousMode};
use jiff::Timestamp;

use super::picture::Picture;
use super::status::dcs_last_seen;
use crate::node::counters::{BOUNDS_MICROS, Cause, Counters, Timing};
use crate::node::view::{Handle, View};

pub(super) use text::CONTENT_TYPE;
use text::{Text, exact};

/// The text.
pub(super) fn render(handle: &Handle, picture: &Picture<'_>) -> String {
    let file = &handle.file;
    let mut text = Text::new(&[("scope", file.scope.as_str()), ("name", file.name.as_str())]);
    server(&mut text, picture);
    wal(&mut text, picture);
    slots(&mut text, picture);
    replicas(&mut text, picture);
    cluster(&mut text, picture);
    lease(&mut text, picture);
    counted(&mut text, &handle.counters, &handle.journal.counts());
    if let Some(server) = &handle.tls.server {
        text.gauge(
            "hart_certificate_expires_timestamp_seconds",
            "Unix time until which the REST API's certificate is valid; absent without HTTPS.",
            exact(server.pair().expires()),
        );
    }
    let dns = file.dns.is_some().then(|| handle.dns.prometheus());
    text.finish(dns.as_deref())
}

fn server(text: &mut Text, picture: &Picture<'_>) {
    let view = picture.view;
    let probe = view.probe.as_deref().filter(|_| picture.answers());
    text.gauge("patroni_version", "Patroni version whose names and keys hart keeps to.", version());
    text.family("hart_version", "gauge", "Version of the agent, as a label.").sample(
        "",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    let running = picture.answers() && view.sql.is_some();
    text.gauge("patroni_postgres_running", "1 if PostgreSQL runs and answers.", running);
    let started = probe.and_then(|probe| seconds(&probe.postmaster_start));
    text.gauge(
        "patroni_postmaster_start_time",
        "Unix time at which PostgreSQL was started; 0 where it is not known.",
        started.unwrap_or(0.0),
    );
    let timeline = view.sql.as_ref().map_or(0, |sql| sql.timeline);
    text.gauge("patroni_postgres_timeline", "Timeline of PostgreSQL.", timeline);
    let number = probe.map_or(0, |probe| probe.server_version);
    text.gauge("patroni_postgres_server_version", "Version of PostgreSQL, as a number.", number);
    text.gauge("patroni_postgres_state", STATES, state(view.state));
    let waits = view.sql.as_ref().is_some_and(|sql| sql.pending_restart);
    text.gauge("patroni_pending_restart", "1 if parameters wait for a restart.", waits);
    let trouble = view.trouble().is_some();
    text.gauge("hart_postgres_sick", "1 if PostgreSQL runs and is of no use.", trouble);
}

fn wal(text: &mut Text, picture: &Picture<'_>) {
    let view = picture.view;
    let probe = view.probe.as_deref().filter(|_| picture.answers());
    let written = view.sql.as_ref().filter(|sql| !sql.in_recovery && picture.answers());
    let position = |lsn: Option<hart_ha::lsn::Lsn>| lsn.map_or(0, |lsn| lsn.0);
    // Positions, which can go back: gauges, though Patroni calls them counters.
    text.gauge(
        "patroni_xlog_location",
        "Position to which a primary has written WAL, in bytes; 0 on a replica.",
        exact(position(written.map(|sql| sql.write_lsn))),
    );
    text.gauge(
        "patroni_xlog_received_location",
        "Position to which a replica has received WAL, in bytes; 0 on a primary.",
        exact(position(picture.received())),
    );
    text.gauge(
        "patroni_xlog_replayed_location",
        "Position to which a replica has replayed WAL, in bytes; 0 on a primary.",
        exact(position(picture.replayed())),
    );
    let replayed = probe.and_then(|probe| seconds(probe.last_replayed_at.as_deref()?));
    text.gauge(
        "patroni_xlog_replayed_timestamp",
        "Unix time of the last commit that a replica has replayed; 0 without one.",
        replayed.unwrap_or(0.0),
    );
    let paused = probe.is_some_and(|probe| probe.replay_paused);
    text.gauge("patroni_xlog_paused", "1 if replay is paused.", paused);
    let word = picture.replication_state();
    let is = |wanted: &str| word == Some(wanted);
    text.gauge("patroni_postgres_streaming", "1 if a replica streams.", is("streaming"));
    text.gauge(
        "patroni_postgres_in_archive_recovery",
        "1 if a replica does not stream.",
        is("in archive recovery"),
    );
}

fn slots(text: &mut Text, picture: &Picture<'_>) {
    let Some(probe) = picture.view.probe.as_deref().filter(|_| picture.answers()) else { return };
    let help = "WAL that a replication slot keeps from being removed, in bytes.";
    text.family("hart_slot_retained_bytes", "gauge", help);
    for (slot, bytes) in &probe.slots_keep {
        text.sample("", &[("slot", slot.as_str())], exact(*bytes));
    }
}

/// Of a primary: who streams from it, by its own word.
fn replicas(text: &mut Text, picture: &Picture<'_>) {
    let probe = picture.view.probe.as_deref().filter(|_| picture.answers());
    let Some((probe, end)) = probe.and_then(|probe| Some((probe, probe.write_lsn?))) else {
        return;
    };
    let streaming = |row: &&hart_postgres::StandbyRow| row.state.as_deref() == Some("streaming");
    let help = "How many servers stream from this primary (pg_stat_replication).";
    let count = probe.standbys.iter().filter(streaming).count();
    text.gauge("hart_streaming_replicas", help, u32::try_from(count).unwrap_or(u32::MAX));
    let help = "WAL that a replica has not confirmed to this primary as received (flushed) or replayed, in bytes.";
    text.family("hart_replica_lag_bytes", "gauge", help);
    // Two senders of one name, as while a replica comes back: the one that is further.
    let mut lags: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for row in probe.standbys.iter().filter(streaming) {
        let Some(name) = row.application_name.as_deref() else { continue };
        for (what, lsn) in [("received", row.flush_lsn), ("replayed", row.replay_lsn)] {
            let Some(lsn) = lsn else { continue };
            let lag = end.bytes_since(lsn);
            lags.entry((name, what)).and_modify(|least| *least = lag.min(*least)).or_insert(lag);
        }
    }
    for ((name, what), lag) in lags {
        text.sample("", &[("replica", name), ("wal", what)], exact(lag));
    }
}

fn cluster(text: &mut Text, picture: &Picture<'_>) {
    let view = picture.view;
    let sync = picture.sync_word();
    let leads = picture.leads();
    text.gauge("patroni_primary", "1 if this node is a primary that may be written to.", leads);
    let standby_leader = picture.leads_standbys();
    text.gauge("patroni_standby_leader", "1 if it leads a standby cluster.", standby_leader);
    let replica = view.role == Role::Replica && view.state == State::Running;
    text.gauge("patroni_replica", "1 if it is a running replica.", replica);
    let is = |wanted: &str| sync == Some(wanted);
    text.gauge("patroni_sync_standby", "1 if it is a synchronous standby.", is("sync_standby"));
    text.gauge("patroni_quorum_standby", "1 if it is a quorum standby.", is("quorum_standby"));
    let unlocked = picture.unlocked();
    text.gauge("patroni_cluster_unlocked", "1 if nobody is known to lead.", unlocked);
    text.gauge("patroni_is_paused", "1 if the cluster is paused.", view.config.pause);
    text.gauge(
        "patroni_failsafe_mode_is_active",
        "1 if it leads without Consul by the members' promises, or has promised that.",
        picture.failsafe_is_active(),
    );
    text.gauge(
        "hart_synchronous_mode",
        "What the shared settings want of commits: 0 asynchronous, 1 synchronous, 2 quorum.",
        match view.config.synchronous_mode {
            SynchronousMode::Off => 0,
            SynchronousMode::On => 1,
            SynchronousMode::Quorum => 2,
        },
    );
    let enabled = view.config.failsafe_mode;
    text.gauge("patroni_failsafe_mode_enabled", "1 if failsafe mode is on.", enabled);
    let member = is_listed(view, picture.name);
    text.gauge("patroni_failsafe_member", "1 if it is on the failsafe list.", member);
    text.gauge(
        "patroni_dcs_last_seen",
        "Unix time of Consul's last answer; 0 before the first.",
        seen(picture),
    );
    let tags = &view.tags;
    let priority = if tags.may_fail_over() { tags.priority() } else { 0 };
    text.gauge("patroni_failover_priority", "Priority in a failover; 0: never.", priority);
}

fn lease(text: &mut Text, picture: &Picture<'_>) {
    let view = picture.view;
    let left = |hold: Option<hart_ha::keeper::Hold>| {
        let endless = |hold: &hart_ha::keeper::Hold| hold.deadline == hart_ha::time::Time::NEVER;
        match hold {
            None => 0.0,
            Some(hold) if endless(&hold) => f64::INFINITY,
            Some(hold) => picture.now.until(hold.deadline).as_secs_f64(),
        }
    };
    text.gauge(
        "hart_lease_left_seconds",
        "Time until PostgreSQL is fenced unless the lease is renewed; 0 without the lease, +Inf in a pause.",
        left(view.hold),
    );
    text.gauge(
        "hart_guard_left_seconds",
        "The same, as the guard has it; 0 where it is not armed.",
        left(view.armed),
    );
    let ttl = view.config.ttl.as_secs_f64();
    text.gauge("hart_lease_ttl_seconds", "How long a lease lasts, by the shared settings.", ttl);
    text.gauge("hart_term", "Highest number of a reign that this node knows.", exact(view.term));
    let may = view.verdict.may_lead();
    text.gauge("hart_may_lead", "1 if it leads, or may when the lease is free.", may);
    let reachable = view.store_reachable;
    text.gauge("hart_consul_reachable", "1 if Consul's last answer came.", reachable);
    let armed = view.watchdog.is_some_and(|watchdog| watchdog.is_armed());
    text.gauge("hart_watchdog_armed", "1 if the kernel's watchdog stands behind the guard.", armed);
}

fn counted(text: &mut Text, counters: &Counters, events: &[(String, u64)]) {
    histogram(text, "hart_loop_seconds", "Turns of the agent's loop.", &[(&[], &counters.turns)]);
    histogram(
        text,
        "hart_consul_request_seconds",
        "Requests to Consul that were answered, by kind.",
        &[
            (&[("request", "lease")], &counters.lease),
            (&[("request", "session")], &counters.session),
        ],
    );
    let help = "How long Consul takes to answer, as the lease thread measures it; 0: not yet.";
    let trip = counters.round_trip().unwrap_or_default();
    text.gauge("hart_consul_round_trip_seconds", help, trip.as_secs_f64());
    let help =
        "WAL files of this node's time as primary that are kept until they are in the archive.";
    text.gauge("hart_unarchived_wal_files", help, exact(counters.unarchived()));
    let help = "Lines of PostgreSQL's configuration files that it does not take.";
    text.gauge("hart_config_file_faults", help, exact(counters.file_faults()));
    let help = "Parameters that PostgreSQL refuses, and hart leaves out of its configuration.";
    text.gauge("hart_parameters_left_out", help, exact(counters.left_out()));
    let errors = counters.errors.load(std::sync::atomic::Ordering::Relaxed);
    text.counter("hart_consul_errors_total", "Such requests without an answer to use.", errors);
    let help = "How often this node came to lead since the agent began, by cause.";
    text.family("hart_takeovers_total", "counter", help);
    for (cause, word) in Cause::ALL {
        text.sample("", &[("cause", word)], exact(counters.takeovers(cause)));
    }
    let help = "Lines of this node's journal since the agent began, by kind (see `hart events`).";
    text.family("hart_events_total", "counter", help);
    for (kind, count) in events {
        text.sample("", &[("kind", kind.as_str())], exact(*count));
    }
}

/// Labels and what was measured.
type Measured<'a> = (&'a [(&'a str, &'a str)], &'a Timing);

fn histogram(text: &mut Text, name: &'static str, help: &str, measured: &[Measured<'_>]) {
    text.family(name, "histogram", help);
    for (labels, timing) in measured {
        let up_to = timing.up_to();
        let (count, time) = timing.get();
        // What is counted meanwhile must not make a bucket larger than all.
        for (bound, within) in BOUNDS_MICROS.iter().zip(up_to) {
            let bound = Duration::from_micros(*bound).as_secs_f64().to_string();
            let labels = [*labels, &[("le", bound.as_str())]].concat();
            text.sample("_bucket", &labels, exact(within.min(count)));
        }
        text.sample("_bucket", &[*labels, &[("le", "+Inf")]].concat(), exact(count));
        text.sample("_sum", labels, time.as_secs_f64());
        text.sample("_count", labels, exact(count));
    }
}

/// Is it on the failsafe list?
fn is_listed(view: &View, name: &str) -> bool {
    let list = view.snapshot.as_deref().and_then(|snapshot| snapshot.failsafe.as_ref());
    list.is_some_and(|list| list.value.contains_key(name))
}

fn seen(picture: &Picture<'_>) -> f64 {
    u64::try_from(dcs_last_seen(picture)).map_or(0.0, exact)
}

fn seconds(rfc3339: &str) -> Option<f64> {
    let at: Timestamp = rfc3339.parse().ok()?;
    Some(at.as_duration().as_secs_f64())
}

/// `4.1.0` as Patroni shows it: 40100.
fn version() -> f64 {
    let parts = hart_ha::brain::LAYOUT_VERSION.split('.');
    parts.filter_map(|part| part.parse::<f64>().ok()).fold(0.0, |sum, part| sum * 100.0 + part)
}

const STATES: &str = "State of PostgreSQL: 0 initdb, 1 initdb failed, 4 creating replica, 5 running, \
                      6 starting, 8 start failed, 9 restarting, 11 stopping, 12 stopped, 14 crashed.";

fn state(state: State) -> u8 {
    match state {
        State::Initializing => 0,
        State::InitdbFailed => 1,
        State::CreatingReplica => 4,
        State::Running => 5,
        State::Starting => 6,
        State::StartFailed => 8,
        State::Restarting => 9,
        State::Stopping => 11,
        State::Stopped => 12,
        State::Crashed => 14,
    }
}
