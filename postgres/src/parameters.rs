//! Which parameters are hart's own, and how its values win over everybody else's.
//!
//! | parameters | said by | what else sets them |
//! |---|---|---|
//! | [`CONTROLLED`], [`FROM_FIELDS`] | the command line | is overridden by it, `ALTER SYSTEM` too |
//! | [`IN_FILES`], `recovery_target*` | hart's files, for they change while the server runs, or must not be set at all | is taken out of `postgresql.auto.conf` at each start, and when it is seen in force |
//! | [`COMMANDS`] | hart's files, where the configuration has them | the same, where the configuration has them |
//! | all others | the configuration, where it has them | wins over it by `ALTER SYSTEM` |

use crate::control::ControlData;
use crate::settings::{Role, Settings};

/// Name, default and lower bound of the parameters controlled for the whole cluster (the bounds are
/// Patroni's; below them a cluster could not be managed).
const CONTROLLED: &[(&str, &str, Option<u32>)] = &[
    ("hot_standby", "on", None),
    ("max_connections", "100", Some(25)),
    ("max_locks_per_transaction", "64", Some(32)),
    ("max_prepared_transactions", "0", Some(0)),
    ("max_replication_slots", "10", Some(4)),
    ("max_wal_senders", "10", Some(3)),
    ("max_worker_processes", "8", Some(2)),
    ("track_commit_timestamp", "off", None),
    ("wal_level", "replica", None),
    ("wal_log_hints", "on", None),
];

/// PostgreSQL's own default of this version, where versions differ in it. 19 keeps no locks in reserve beyond what is
/// asked for, and so asks for twice as many: with the former value a transaction would get 42 % fewer than before.
fn default_of(name: &str, known: &'static str, major: u32) -> &'static str {
    match name {
        "max_locks_per_transaction" if major >= 19 => "128",
        _ => known,
    }
}

/// Set from the settings' own fields.
const FROM_FIELDS: &[&str] = &["cluster_name", "listen_addresses", "port"];

/// Written by other parts of this crate; a value in the configuration would fight with them.
const OURS: &[&str] = &[
    "config_file",
    "data_directory",
    "include",
    "include_dir",
    "include_if_exists",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "synchronous_standby_names",
];

/// hart's own, and not on the command line, which wins over the files for as long as the server runs.
pub(crate) const IN_FILES: &[&str] = &[
    "primary_conninfo",
    "primary_slot_name",
    // Up to PostgreSQL 15: a promotion that nobody has the lease for.
    "promote_trigger_file",
    "synchronous_standby_names",
    // By it the server is found.
    "unix_socket_directories",
];

/// What a standby runs. hart's own where the configuration has them.
const COMMANDS: &[&str] = &["archive_cleanup_command", "recovery_end_command", "restore_command"];

/// A recovery target would stop a standby in the middle of a failover.
const RECOVERY_TARGETS: &str = "recovery_target";

/// Whether hart's files say what this parameter is (given in lower case), and nothing else may.
pub(crate) fn is_kept_in_files(settings: &Settings, name: &str) -> bool {
    let given = || settings.recovery.keys().chain(settings.parameters.keys());
    IN_FILES.contains(&name)
        || name.starts_with(RECOVERY_TARGETS)
        || COMMANDS.contains(&name) && given().any(|given| given.eq_ignore_ascii_case(name))
}

/// Whether the parameter belongs into `postgresql.conf`.
pub(crate) fn belongs_in_conf(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    !CONTROLLED.iter().any(|(known, ..)| *known == name)
        && !FROM_FIELDS.contains(&name)
        && !OURS.contains(&name)
        && !name.starts_with(RECOVERY_TARGETS)
        && is_name(name)
}

/// Names are `[a-z_][a-z0-9_.]*`; anything else would be a way to inject lines.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

/// The parameters for the command line. A standby's resources must not be smaller than those of the
/// primary whose WAL it replays, so for a standby the control file's values are the lower bounds.
pub(crate) fn on_command_line(
    settings: &Settings,
    role: &Role,
    control: Option<&ControlData>,
    major: u32,
) -> Vec<(String, String)> {
    let mut out = vec![
        ("listen_addresses".to_owned(), settings.listen_addresses.clone()),
        ("port".to_owned(), settings.port.to_string()),
        ("cluster_name".to_owned(), settings.scope.clone()),
    ];
    let floor = control.filter(|_| matches!(role, Role::Standby { .. }));
    for (name, default, minimum) in CONTROLLED {
        let default = default_of(name, default, major);
        let wanted = configured(settings, name).unwrap_or(default);
        let value = match minimum {
            Some(minimum) => number(name, wanted, default, *minimum, floor).to_string(),
            None if *name == "wal_level" => wal_level(wanted).to_owned(),
            None if *name == "hot_standby" => "on".to_owned(),
            None => wanted.to_owned(),
        };
        out.push(((*name).to_owned(), value));
    }
    out
}

fn configured<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    let found = settings.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

fn number(
    name: &str,
    wanted: &str,
    default: &str,
    minimum: u32,
    floor: Option<&ControlData>,
) -> u32 {
    let read = wanted.parse::<u32>().ok().filter(|value| *value >= minimum);
    let value = read.unwrap_or_else(|| {
        tracing::warn!(parameter = name, value = wanted, minimum, default, "bad value ignored");
        default.parse().unwrap_or(minimum)
    });
    value.max(floor.map_or(0, |control| control_value(name, control)))
}

fn control_value(name: &str, control: &ControlData) -> u32 {
    match name {
        "max_connections" => control.max_connections,
        "max_worker_processes" => control.max_worker_processes,
        "max_wal_senders" => control.max_wal_senders,
        "max_prepared_transactions" => control.max_prepared_transactions,
        "max_locks_per_transaction" => control.max_locks_per_transaction,
        _ => 0,
    }
}

/// `minimal` would make replication impossible; `hot_standby` and `archive` are old names.
fn wal_level(wanted: &str) -> &'static str {
    if wanted.eq_ignore_ascii_case("logical") { "logical" } else { "replica" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::SAMPLE;

    fn value(list: &[(String, String)], name: &str) -> String {
        list.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap()
    }

    fn settings(parameters: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.parameters =
            parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        settings
    }

    #[test]
    fn a_standby_is_never_smaller_than_its_primary() {
        let settings = settings(&[("max_connections", "50"), ("max_wal_senders", "20")]);
        let control = ControlData::parse(SAMPLE).unwrap();
        let standby = Role::Standby { upstream: None, slot: None };
        let list = on_command_line(&settings, &standby, Some(&control), 15);
        assert_eq!(value(&list, "max_connections"), "100");
        assert_eq!(value(&list, "max_wal_senders"), "20");
        let list = on_command_line(&settings, &Role::Primary, Some(&control), 15);
        assert_eq!(value(&list, "max_connections"), "50");
    }

    #[test]
    fn unusable_values_give_way_to_defaults() {
        let settings = settings(&[
            ("max_connections", "3"),
            ("max_wal_senders", "many"),
            ("wal_level", "minimal"),
            ("hot_standby", "off"),
        ]);
        let list = on_command_line(&settings, &Role::Primary, None, 15);
        assert_eq!(value(&list, "max_connections"), "100");
        assert_eq!(value(&list, "max_wal_senders"), "10");
        assert_eq!(value(&list, "wal_level"), "replica");
        assert_eq!(value(&list, "hot_standby"), "on");
        assert_eq!(value(&list, "cluster_name"), "demo");
    }

    /// Read from `pg_settings.boot_val` of 13.16, 14.23, 15.19, 16.15, 17.11, 18.6 and 19rc1.
    #[test]
    fn what_nobody_has_set_is_the_versions_own_default() {
        let locks = |given: &[(&str, &str)], major| {
            let list = on_command_line(&settings(given), &Role::Primary, None, major);
            value(&list, "max_locks_per_transaction")
        };
        assert_eq!([13, 15, 18, 19].map(|major| locks(&[], major)), ["64", "64", "64", "128"]);
        assert_eq!(locks(&[("max_locks_per_transaction", "64")], 19), "64");
        assert_eq!(locks(&[("max_locks_per_transaction", "few")], 19), "128");
    }

    #[test]
    fn only_free_parameters_go_to_the_file() {
        assert!(belongs_in_conf("shared_buffers") && belongs_in_conf("auto_explain.log_analyze"));
        for name in [
            "MAX_Connections",
            "port",
            "Include",
            "include_dir",
            "include_if_exists",
            "primary_conninfo",
            "recovery_target_time",
            "a b",
        ] {
            assert!(!belongs_in_conf(name), "{name}");
        }
    }
}
