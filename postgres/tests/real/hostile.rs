//! Sites set defaults for everybody; our own sessions have settings of their own.

use std::collections::BTreeMap;

use hart_postgres::{Rewound, Role};
use nix::sys::signal::Signal;

use crate::node::{LONG, Node, standby_of};

/// Each of these breaks or bends a session that takes it as it is.
const DEFAULTS: &[(&str, &str)] = &[
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "1ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("idle_session_timeout", "1ms"),
    ("search_path", "public, pg_catalog"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Pacific/Chatham"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("exit_on_error", "on"),
    ("row_security", "off"),
    ("session_replication_role", "replica"),
    ("client_encoding", "SQL_ASCII"),
    ("quote_all_identifiers", "on"),
    ("force_parallel_mode", "on"),
    ("debug_parallel_query", "on"),
    ("jit_above_cost", "0"),
    ("log_statement", "all"),
    ("log_min_duration_statement", "0"),
    ("log_duration", "on"),
];

/// Names and values that some of the versions do not have; the agent leaves such out, too.
const NOT_ALWAYS: &[&str] = &[
    "debug_parallel_query",
    "force_parallel_mode",
    "idle_session_timeout",
    "standard_conforming_strings",
];

async fn bend(node: &Node) {
    let mut all: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let refused = node.postgres.vet(&all, LONG).await.unwrap();
    for (name, why) in refused {
        assert!(NOT_ALWAYS.contains(&&*name), "{name}: {why}");
        all.remove(&name);
    }
    node.change(|s| s.parameters.extend(all));
}

/// A role's own settings win over the file's, and over the database's.
async fn bend_roles(node: &Node) {
    node.sql("CREATE ROLE nobody").await;
    for role in ["postgres", "rewinder", "replicator"] {
        node.sql(&format!("GRANT nobody TO {role}")).await;
        for (name, value) in [("role", "nobody"), ("statement_timeout", "1"), ("lock_timeout", "1")]
        {
            node.sql(&format!("ALTER ROLE {role} SET {name} = '{value}'")).await;
        }
    }
    // Ours are found first.
    let traps = "CREATE FUNCTION public.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'; \
                 CREATE FUNCTION public.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1/0'";
    node.sql(traps).await;
}

#[tokio::test]
async fn a_cluster_with_hostile_defaults_is_worked_with_as_any() {
    let mut first = Node::primary("n1").await;
    bend_roles(&first).await;
    bend(&first).await;
    first.stop(Signal::SIGINT).await;
    let probe = first.start(&Role::Primary).await;
    assert!(!probe.in_recovery);
    first.postgres.ensure_roles(LONG).await.unwrap();
    let mut second = Node::new("n2");
    bend(&second).await;
    second.copy(&first, hart_postgres::BaseBackup::default()).await.unwrap();
    second.start(&standby_of(&first)).await;
    second.streaming().await;
    first.postgres.enable_sync("1 (n2)", LONG).await.unwrap();
    assert_eq!(first.sql("SHOW transaction_isolation").await, "read committed");
    assert_eq!(first.sql("SHOW role").await, "none");
    let zone = first.sql("SHOW TimeZone").await;
    assert_eq!(zone, "Pacific/Chatham", "the site's settings are in force");
    let started = first.postgres.probe(LONG).await.unwrap().postmaster_start;
    assert!(started.ends_with('Z') && started.len() == "2026-01-01T00:00:00.000000Z".len());

    // The old primary goes on alone, is stopped, compared and rewound.
    first.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i").await;
    second.caught_up_with(&first).await;
    first.postgres.set_synchronous_standby_names("", LONG).await.unwrap();
    second.postgres.promote(LONG).await.unwrap();
    second.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;
    first.sql("INSERT INTO public.t VALUES (-1)").await;
    first.stop(Signal::SIGQUIT).await;
    second.postgres.checkpoint(LONG).await.unwrap();
    let state = first.postgres.upstream_state(&second.address(), LONG).await.unwrap();
    assert_eq!((state.timeline, state.history.is_some()), (2, true));
    let done = first.postgres.rewind(&second.address(), |_| {}, LONG).await.unwrap();
    assert_eq!(done, Rewound::Done);
    first.start(&standby_of(&second)).await;
    first.streaming().await;
    first.caught_up_with(&second).await;
    assert_eq!(first.sql("SELECT count(*) FROM public.t").await, "1000");
}
