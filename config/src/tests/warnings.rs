use super::warnings;
use crate::{Support, WarningKind, reference};

#[test]
fn logins_that_are_worth_a_word() {
    let found = |authentication: &str| {
        let rest = "listen: '127.0.0.1:5432', data_dir: /data";
        warnings(&format!("postgresql: {{{rest}, authentication: {{{authentication}}}}}"))
    };
    let superuser = "superuser: {username: postgres, password: x}";
    let said = found(superuser);
    assert!(said.len() == 1 && said[0].contains("no rewind role"), "{said:?}");
    let rewind = "rewind: {username: rewinder, password: y}";
    assert!(found(&format!("{superuser}, {rewind}")).is_empty());
    assert!(found("superuser: {username: postgres}").is_empty());
    let said = found("replication: {sslkey: /k.pem, sslpassword: geheim}");
    assert!(said.len() == 1 && said[0].contains("without a password"), "{said:?}");
    assert!(!said[0].contains("geheim"));
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    assert_eq!(
        warnings("tags: {a: 1}\nbootstrap:\n  dcs:\n    loop_wiat: 1\n  post_initt: x"),
        [
            "n1.yml:4: unknown key \"bootstrap.dcs.loop_wiat\" is ignored; did you mean \"loop_wait\"?",
            "n1.yml:5: unknown key \"bootstrap.post_initt\" is ignored; did you mean \"post_init\"?",
        ]
    );
    assert_eq!(
        warnings("ttl: 5\nfrobnicate: 1"),
        [
            "n1.yml:1: unknown key \"ttl\" is ignored; did you mean \"bootstrap.dcs.ttl\"?",
            "n1.yml:2: unknown key \"frobnicate\" is ignored",
        ]
    );
}

#[test]
fn free_maps_know_every_key() {
    let text = "bootstrap: {dcs: {postgresql: {parameters: {x.y: 1}}}}\ntags: {mine: {deep: 1}}\n\
                postgresql: {listen: 'a:1', data_dir: /d, parameters: {work_mem: 8MB}}";
    assert_eq!(warnings(text), [""; 0]);
}

#[test]
fn a_misspelt_tag_is_kept_with_a_word_about_it() {
    assert_eq!(
        warnings("tags: {nofailove: true}"),
        [
            "n1.yml:1: key \"tags.nofailove\": kept as a tag of its own; did you mean \"nofailover\"?"
        ]
    );
}

#[test]
fn what_only_patroni_does_is_known_as_such() {
    assert_eq!(
        warnings("etcd3: {host: e}\nbootstrap: {dcs: {check_timeline: true}}"),
        [
            "n1.yml:1: key \"etcd3\" is not supported by hart and is ignored",
            "n1.yml:2: key \"bootstrap.dcs.check_timeline\" is not supported by hart and is ignored",
        ]
    );
    let what = "n1.yml:1: key \"postgresql.rewind\" is not supported by hart and is ignored";
    assert_eq!(warnings("postgresql: {listen: 'a:1', data_dir: /d, rewind: [x]}"), [what]);
}

/// All sections of methods are read.
#[test]
fn other_ways_to_begin_and_to_copy_are_known() {
    let text = "bootstrap: {method: pitr, pitr: {command: c, x: 1}, post_init: z}\n\
                postgresql: {listen: 'a:1', data_dir: /d, create_replica_methods: [pgbackrest, basebackup], \
                pgbackrest: {command: c, keep_data: true}}";
    assert_eq!(warnings(text), [""; 0]);
    let unused = "bootstrap: {method: initdb, pitr: {command: c}}";
    let what = "n1.yml:1: unknown key \"bootstrap.pitr\" is ignored";
    assert_eq!(warnings(unused), [what]);
    let text = "postgresql: {listen: 'a:1', data_dir: /d, create_replica_methods: [wal_e], \
                wal_e: {command: c, no_leader: 1}, recovery_conf: {primary_conninfo: x}}";
    let found = warnings(text);
    let starts = ["key \"postgresql.recovery_conf.primary_conninfo\" is ignored: hart says"];
    assert_eq!(found.len(), 1, "{found:?}");
    for (line, start) in found.iter().zip(starts) {
        assert!(line.starts_with(&format!("n1.yml:1: {start}")), "{line}");
    }
}

#[test]
fn local_values_of_shared_settings_are_reported() {
    let text = "postgresql: {listen: 'a:1', data_dir: /d, use_slots: off, parameters: {Max_Connections: 9, port: 1}}";
    let shared = "it must be the same on all nodes; set it in bootstrap.dcs.postgresql, or in a \
                  running cluster with PATCH /config";
    assert_eq!(
        warnings(text),
        [
            format!("n1.yml:1: key \"postgresql.parameters.Max_Connections\" is ignored: {shared}"),
            "n1.yml:1: key \"postgresql.parameters.port\" is ignored: it comes from postgresql.listen"
                .to_owned(),
            format!("n1.yml:1: key \"postgresql.use_slots\" is ignored: {shared}"),
        ]
    );
}

#[test]
fn contradictions_and_raised_values_are_reported() {
    assert_eq!(
        warnings("tags: {nofailover: true, failover_priority: 2}"),
        ["n1.yml:1: key \"tags.failover_priority\" is ignored: tags.nofailover is true and wins"]
    );
    assert_eq!(
        warnings("tags: {nosync: 'no', sync_priority: '0'}"),
        ["n1.yml:1: key \"tags.sync_priority\" is ignored: tags.nosync is false and wins"]
    );
    let agree = "tags: {nofailover: false, failover_priority: 2, nosync: true, sync_priority: 0}";
    assert!(warnings(agree).is_empty());
    assert_eq!(
        warnings("bootstrap: {dcs: {ttl: 1}}"),
        ["n1.yml:1: key \"bootstrap.dcs.ttl\": raised to 2 s, the shortest lease"]
    );
    assert_eq!(
        warnings("bootstrap: {dcs: {ttl: 60}}"),
        ["n1.yml:1: key \"bootstrap.dcs.ttl\": lowered to 30 s, the longest lease"]
    );
}

#[test]
fn every_ignored_key_of_the_table_is_warned_of() {
    for key in reference().iter().filter(|key| key.support == Support::No) {
        if key.path == "bootstrap.dcs.standby_cluster" {
            continue; // refused, not ignored
        }
        let leaf =
            key.path.split('.').rev().fold("x".to_owned(), |value, name| match value.as_str() {
                "x" => format!("{{{name}: x}}"),
                _ => format!("{{{name}: {value}}}"),
            });
        let root = crate::yaml::parse(&"t".into(), &leaf).unwrap();
        let env = crate::env::Environment::new([]);
        let found = crate::unknown::warnings(&root, &env);
        assert_eq!(found.len(), 1, "{}", key.path);
        assert_eq!(found[0].field, key.path);
        let why = key.reason().map(|why| why.trim_end_matches('.').to_owned());
        let said = why.map_or(WarningKind::Unsupported, |why| WarningKind::Ignored { why });
        assert_eq!(found[0].kind, said);
    }
}

/// Patroni's sample has most of these. What hart does anyway needs no word.
#[test]
fn a_setting_without_effect_is_said_unless_it_is_what_happens_anyway() {
    let postgresql = |more: &str| {
        warnings(&format!("postgresql: {{listen: '127.0.0.1:5432', data_dir: /d, {more}}}"))
    };
    assert_eq!(
        warnings("tags: {clonefrom: true, replicatefrom: n2}"),
        ["clonefrom", "replicatefrom"].map(|tag| format!(
            "n1.yml:1: key \"tags.{tag}\" is not supported by this version of hart and is ignored"
        ))
    );
    assert_eq!(warnings("tags: {clonefrom: false}"), [""; 0]);
    assert_eq!(
        warnings("bootstrap: {dcs: {retry_timeout: 10}}"),
        [
            "n1.yml:1: key \"bootstrap.dcs.retry_timeout\" is ignored: Patroni's: hart asks Consul again \
          for as long as the ttl leaves time"
        ]
    );
    assert_eq!(
        warnings("consul: {host: c, consistency: stale}"),
        ["n1.yml:1: key \"consul.consistency\" is ignored: hart chooses for each read: what it \
          decides by is never stale"]
    );
    assert_eq!(warnings("consul: {host: c, consistency: default}"), [""; 0]);
    assert_eq!(
        postgresql("use_unix_socket: off"),
        [
            "n1.yml:1: key \"postgresql.use_unix_socket\" is ignored: hart connects to its own server \
          over the Unix socket wherever there is one"
        ]
    );
    assert_eq!(postgresql("use_unix_socket: on"), [""; 0]);
    assert_eq!(
        postgresql(
            "bin_name: {pg_ctl: pg_ctl-15, pg_rewind: pg_rewind-15, pg_isready: pg_isready}"
        ),
        [
            "n1.yml:1: key \"postgresql.bin_name.pg_ctl\" is ignored: hart starts and stops PostgreSQL \
          without pg_ctl"
        ]
    );
}

/// They may come from Patroni, or by PATCH.
#[test]
fn shared_settings_without_effect_are_said() {
    let said = |json: &str| {
        let raw = serde_json::from_str(json).unwrap();
        crate::shared_without_effect(&hart_ha::kv::DynamicConfig::from_raw(raw).unwrap())
    };
    let used = r#"{"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "slots": null,
        "postgresql": {"use_slots": true, "parameters": {"any.thing": 1}}}"#;
    assert_eq!(said(used), [""; 0]);
    assert_eq!(
        said(
            r#"{"ttl": 60, "check_timeline": true, "slots": {"a": {}, "b": 7}, "postgresql": {"recovery_conf": {}, "parametres": {}}}"#
        ),
        [
            "check_timeline: the shared value is not used: hart does not support it",
            "postgresql.recovery_conf: the shared value is not used: hart does not support it",
            "postgresql.parametres: nobody knows this setting; is parameters meant?",
            "the shared value is not used: slots.b: expected type: physical, or type: logical with database and \
             plugin, found 7",
            "ttl: 30 s is used instead of 60 s; a lease lasts 2 to 30 s",
        ]
    );
}
