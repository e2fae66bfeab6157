use hart_ha::kv::DynamicConfig;
use serde_json::{Value, json};

use super::{SAMPLE, with};
use crate::{EffectivePostgres, effective_postgresql, load_text};

fn effective(local: &str, shared: Value) -> EffectivePostgres {
    joined(local, &json!({ "postgresql": shared }))
}

fn joined(local: &str, shared: &Value) -> EffectivePostgres {
    let postgresql = format!("postgresql: {{listen: 'a,b:5432', data_dir: /d, {local}}}");
    let raw = shared.as_object().unwrap().clone();
    effective_postgresql(&with(&postgresql), &DynamicConfig::from_raw(raw).unwrap())
}

#[test]
fn the_sample_runs_with_its_own_and_the_shared_values() {
    let config = load_text("n1.yml", SAMPLE, []).unwrap().config;
    let got = effective_postgresql(&config, &config.bootstrap.dynamic);
    let expected = json!({
        "cluster_name": "ha", "hot_standby": "on", "listen_addresses": "10.0.0.21,127.0.0.1",
        "max_connections": "50",
        "max_prepared_transactions": "0", "max_replication_slots": "10", "max_wal_senders": "10",
        "max_worker_processes": "8", "port": "5432", "track_commit_timestamp": "off",
        "unix_socket_directories": "/var/lib/hart/n1", "wal_keep_size": "128MB",
        "wal_level": "replica", "wal_log_hints": "on",
    });
    assert_eq!(json!(got.parameters), expected);
    assert_eq!(got.warnings, [""; 0]);
    assert!(got.use_pg_rewind && got.use_slots);
    assert_eq!(got.pg_hba.unwrap().len(), 3);
}

/// Versions of PostgreSQL differ in it.
#[test]
fn a_number_of_locks_that_nobody_gave_is_left_to_the_version() {
    let locks = |given: Value| {
        let got = effective("pgpass: /p", json!({"parameters": given}));
        (got.parameters.get("max_locks_per_transaction").cloned(), got.warnings.join(""))
    };
    assert_eq!(locks(json!({})), (None, String::new()));
    let given = json!({"max_locks_per_transaction": 500});
    assert_eq!(locks(given), (Some("500".to_owned()), String::new()));
    let wrong = "max_locks_per_transaction: \"7\" is out of range; the default is used";
    assert_eq!(locks(json!({"max_locks_per_transaction": 7})), (None, wrong.to_owned()));
}

#[test]
fn the_file_wins_except_where_nodes_must_agree() {
    let shared = json!({
        "use_pg_rewind": true, "use_slots": false, "pg_hba": ["shared"], "pg_ident": ["shared"],
        "parameters": {"work_mem": "4MB", "Max_Connections": 200, "jit": false, "fsync": "on"},
    });
    let local = "use_pg_rewind: no, use_slots: on, pg_hba: [own], \
                 parameters: {WORK_MEM: 8MB, max_connections: 30, fsync: , log_min_messages: info, \
                 shared_preload_libraries: [a, b]}";
    let got = effective(local, shared);
    let parameter = |name: &str| got.parameters.get(name).map(String::as_str);
    assert_eq!(parameter("work_mem"), Some("8MB"));
    assert_eq!(parameter("max_connections"), Some("200"));
    assert_eq!(parameter("jit"), Some("off"));
    assert_eq!(parameter("fsync"), None);
    assert_eq!(parameter("shared_preload_libraries"), Some("a,b"));
    assert_eq!((got.use_pg_rewind, got.use_slots), (false, false));
    assert_eq!(got.pg_hba, Some(vec!["own".to_owned()]));
    assert_eq!(got.pg_ident, Some(vec!["shared".to_owned()]));
}

#[test]
fn shared_values_out_of_range_give_way_to_the_default() {
    let got = effective(
        "pgpass: /p",
        json!({"parameters": {
            "max_connections": 5, "wal_level": "minimal", "wal_log_hints": "off", "wal_keep_size": "1kB",
            "hot_standby": "off", "port": 1, "max_wal_senders": "7",
        }}),
    );
    assert_eq!(got.parameters["max_connections"], "100");
    assert_eq!(got.parameters["wal_level"], "replica");
    assert_eq!(got.parameters["wal_log_hints"], "off");
    assert_eq!(got.parameters["wal_keep_size"], "128MB");
    assert_eq!(got.parameters["hot_standby"], "on");
    assert_eq!(got.parameters["port"], "5432");
    assert_eq!(got.parameters["max_wal_senders"], "7");
    assert_eq!(
        got.warnings,
        [
            "wal_level: \"minimal\" is out of range; replica is used",
            "max_connections: \"5\" is out of range; 100 is used",
            "wal_keep_size: \"1kB\" is out of range; 128MB is used",
        ]
    );
}

#[test]
fn what_no_member_takes_is_known_before_it_is_written() {
    let parameters = json!({
        "max_connections": 10_000_000_000_u64, "MAX_wal_senders": 0, "wal_level": "minimal",
        "port": 1, "work_mem": "no size", "max_worker_processes": "7", "wal_log_hints": null,
    });
    let raw = json!({"postgresql": {"parameters": parameters}}).as_object().unwrap().clone();
    assert_eq!(
        crate::out_of_range(&DynamicConfig::from_raw(raw).unwrap()),
        [
            "wal_level: \"minimal\" is out of range; replica is used",
            "max_connections: \"10000000000\" is out of range; 100 is used",
            "max_wal_senders: \"0\" is out of range; 10 is used",
        ]
    );
}

#[test]
fn old_spellings_are_brought_up_to_date() {
    let got = effective(
        "pgpass: /p",
        json!({"parameters": {"wal_keep_segments": 8, "wal_level": "hot_standby"}}),
    );
    assert_eq!(got.parameters["wal_keep_size"], "128MB");
    assert_eq!(got.parameters["wal_level"], "replica");
    assert!(!got.parameters.contains_key("wal_keep_segments"));
    let got = effective("pgpass: /p", json!({"parameters": {"wal_keep_segments": 64}}));
    assert_eq!(got.parameters["wal_keep_size"], "1024MB");
    let both = json!({"parameters": {"wal_keep_segments": 64, "wal_keep_size": "2GB"}});
    assert_eq!(effective("pgpass: /p", both).parameters["wal_keep_size"], "2GB");
}

#[test]
fn commits_that_do_not_wait_in_synchronous_mode_are_warned_of() {
    let warnings = |mode: Value, commit: &str| {
        let shared = json!({"parameters": {"synchronous_commit": commit}});
        let raw = json!({"synchronous_mode": mode, "postgresql": shared});
        let raw = raw.as_object().unwrap().clone();
        let config = with("postgresql: {listen: 'a:5432', data_dir: /d}");
        effective_postgresql(&config, &DynamicConfig::from_raw(raw).unwrap()).warnings
    };
    for lax in ["off", "local", "remote_write"] {
        let said = warnings(json!("quorum"), lax).join(", ");
        assert!(said.contains(&format!("synchronous_commit is {lax}")), "{lax}: {said}");
        assert_eq!(warnings(json!(false), lax), [""; 0]);
    }
    for waits in ["on", "remote_apply"] {
        assert_eq!(warnings(json!(true), waits), [""; 0], "{waits}");
    }
}
/// As PostgreSQL reads them since version 12.
#[test]
fn numbers_may_have_fractions() {
    for (name, given, expected) in [
        ("wal_keep_size", json!("1.5GB"), "1.5GB"),
        ("wal_keep_size", json!("17900.0MB"), "17900.0MB"),
        ("wal_keep_size", json!("0.5"), "128MB"),
        ("wal_keep_size", json!("3TBB"), "128MB"),
        ("wal_keep_size", json!("2048TB"), "128MB"),
        ("max_connections", json!(100.0), "100"),
        ("max_connections", json!("250.4"), "250"),
        ("max_connections", json!(262_144), "100"),
        ("max_connections", json!("inf"), "100"),
        ("max_wal_senders", json!("1e2"), "100"),
    ] {
        let got = effective("pgpass: /p", json!({"parameters": {name: given}}));
        assert_eq!(got.parameters[name], expected, "{name}: {given}");
        assert_eq!(
            got.warnings.is_empty(),
            expected != "128MB" && given != 262_144 && given != "inf"
        );
    }
}

#[test]
fn a_node_may_refuse_commands_from_consul() {
    let shared = json!({"pg_hba": ["host all all all trust"], "parameters": {
        "archive_command": "rm -rf /", "Shared_Preload_Libraries": "x", "work_mem": "1MB"}});
    let taken = effective("pgpass: /p", shared.clone());
    assert_eq!(taken.parameters["archive_command"], "rm -rf /");
    assert_eq!((taken.pg_hba.is_some(), taken.warnings), (true, vec![]));
    let local = "allow_commands_from_dcs: false, parameters: {archive_command: 'cp %p /a'}";
    let got = effective(local, shared);
    assert_eq!(got.parameters["archive_command"], "cp %p /a");
    assert_eq!(got.parameters["work_mem"], "1MB");
    assert!(!got.parameters.contains_key("shared_preload_libraries"));
    assert_eq!(got.pg_hba, None);
    assert_eq!(got.warnings.len(), 3, "{:?}", got.warnings);
}

#[test]
fn what_hart_sets_itself_is_left_out_with_a_word() {
    let names = json!({"primary_conninfo": "host=n1", "recovery_target_time": "now"});
    let got = effective("pgpass: /p", json!({"parameters": names}));
    assert!(!got.parameters.contains_key("primary_conninfo"));
    assert!(!got.parameters.contains_key("recovery_target_time"));
    assert_eq!(got.warnings.len(), 2, "{:?}", got.warnings);
}

#[test]
fn names_of_standbys_are_taken_as_given_while_the_mode_is_off() {
    let names = json!({"parameters": {"Synchronous_Standby_Names": "*"}});
    let got = effective("pgpass: /p", names.clone());
    assert_eq!((got.standby_names.as_str(), got.warnings), ("*", vec![]));
    assert!(!got.parameters.contains_key("synchronous_standby_names"));
    let local = "pgpass: /p, parameters: {synchronous_standby_names: [a, b]}";
    assert_eq!(effective(local, names.clone()).standby_names, "a,b");

    let shared = json!({"postgresql": names, "synchronous_mode": "quorum"});
    let got = joined("pgpass: /p", &shared);
    assert_eq!(got.standby_names, "");
    assert!(got.warnings.iter().any(|line| line.contains("synchronous_mode is on")), "{got:?}");
}

#[test]
fn directives_are_no_parameters() {
    let got = effective("parameters: {include: /x}", json!({"parameters": {"Include_Dir": "/y"}}));
    assert!(got.parameters.keys().all(|name| !name.starts_with("include")));
    assert_eq!(got.warnings.len(), 2);
}
