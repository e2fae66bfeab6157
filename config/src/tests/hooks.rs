//! Programs of other people's: what they are told.

use super::{error, try_with};
use crate::CreateReplica;

#[test]
fn a_custom_bootstrap_is_read_with_all_its_keys() {
    let text = "bootstrap:\n  method: pitr\n  pitr:\n    command: /x --a 'b c'\n    scope: theirs\n    \
                test-argument: 10\n    flag: yes\n    recovery_conf: {recovery_target_time: 2026-01-01 10:00, \
                recovery_target_inclusive: false}\n    keep_existing_recovery_conf: True\n    no_params: 0";
    let custom = try_with(text).unwrap().config.bootstrap.custom.unwrap();
    assert_eq!(custom.program.words().join("|"), "/x|--a|b c");
    assert_eq!(custom.arguments, ["--test-argument=10", "--flag=True"]);
    assert!(custom.keep_existing_recovery_conf && !custom.no_params);
    let recovery: Vec<_> = custom.recovery_conf.unwrap().into_iter().collect();
    let wanted =
        [("recovery_target_inclusive", "false"), ("recovery_target_time", "2026-01-01 10:00")];
    assert_eq!(recovery, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn methods_for_replicas_are_read_as_patroni_reads_them() {
    let text = "postgresql:\n  listen: a:1\n  data_dir: /d\n  create_replica_methods: [wal_e, pgbackrest, basebackup]\n  \
                wal_e: {command: /w, envdir: /e, no_leader: 1, keep_data: false}\n  \
                pgbackrest: {command: /p --delta, keep_data: True, no_params: True, extra: 1}";
    let methods = try_with(text).unwrap().config.postgresql.create_replica_methods;
    let shown = |method: &CreateReplica| match method {
        CreateReplica::BaseBackup => "basebackup".to_owned(),
        CreateReplica::Command { name, program, arguments, no_params, no_leader, keep_data } => {
            format!(
                "{name} {} {} {no_params} {no_leader} {keep_data}",
                program.words().join(" "),
                arguments.join(" ")
            )
        }
    };
    assert_eq!(
        methods.iter().map(shown).collect::<Vec<_>>(),
        [
            "wal_e /w --envdir=/e --no_leader=1 --keep_data=False false true false",
            "pgbackrest /p --delta --extra=1 true false true",
            "basebackup",
        ]
    );
    let bare = "postgresql: {listen: 'a:1', data_dir: /d, create_replica_method: ['/bin/x y']}";
    let methods = try_with(bare).unwrap().config.postgresql.create_replica_methods;
    assert_eq!(
        methods.iter().map(shown).collect::<Vec<_>>(),
        ["/bin/x y /bin/x y  false false false"]
    );
}

#[test]
fn commands_that_cannot_be_run_are_named_and_not_shown() {
    let text =
        error("postgresql: {listen: 'a:1', data_dir: /d, pre_promote: \"x --password 'geheim\"}");
    assert!(text.starts_with("n1.yml:1:56: postgresql.pre_promote: expected a program"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
    let text = error("bootstrap: {method: m, m: {no_params: true}}");
    assert!(text.contains("hint: add bootstrap.m.command, or write initdb"), "{text}");
    let text = error("bootstrap: {method: m, m: {command: c, x: [1]}}");
    assert!(text.contains("bootstrap.m.x: expected one value, found a list"), "{text}");
    let text = error("bootstrap: {method: m, m: {command: c, recovery_conf: {\"a b\": 1}}}");
    assert!(text.contains("expected the name of a setting, found \"a b\""), "{text}");
}
