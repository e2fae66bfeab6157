//! Settings that run programs, load libraries or let people in: whoever sets them can do what PostgreSQL's
//! user can.

use std::collections::{BTreeMap, BTreeSet};

use hart_ha::kv::DynamicConfig;

use crate::effective::written;
use crate::redact::without_secrets;

const COMMANDS: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "dynamic_library_path",
    "extension_control_path",
    "hba_file",
    "ident_file",
    "jit_provider",
    "oauth_validator_libraries",
    "recovery_end_command",
    "restore_command",
    "ssl_passphrase_command",
];

/// Endings of further ones: libraries, and what procedural languages run when they start.
const ENDINGS: &[&str] = &["_preload_libraries", ".start_proc"];

/// Does this parameter name a program, a library or a file of logins?
#[must_use]
pub fn is_command(parameter: &str) -> bool {
    let name = parameter.to_ascii_lowercase();
    COMMANDS.contains(&name.as_str())
        || ENDINGS.iter().any(|end| name.ends_with(end))
        || name.starts_with("plperl.on_")
}

/// A change of one of them in the shared settings, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandChange {
    /// The parameter, `pg_hba` or `pg_ident`.
    pub name: String,
    /// Before, without secrets.
    pub old: String,
    /// After, without secrets.
    pub new: String,
}

/// What changed of them, in the order of their names.
#[must_use]
pub fn command_changes(old: &DynamicConfig, new: &DynamicConfig) -> Vec<CommandChange> {
    let (old, new) = (commands(old), commands(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let shown =
        |value: Option<&String>| value.map_or_else(String::new, |text| without_secrets(text));
    let change = |name: &String| CommandChange {
        name: name.clone(),
        old: shown(old.get(name)),
        new: shown(new.get(name)),
    };
    changed.map(change).collect()
}

/// Parameters of the shared settings that are new or have another value, by lower-case name.
#[must_use]
pub fn changed_parameters(old: &DynamicConfig, new: &DynamicConfig) -> BTreeMap<String, String> {
    let all = |config: &DynamicConfig| -> BTreeMap<String, String> {
        let parameters = config.postgresql.parameters.iter();
        parameters
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), written(value)?)))
            .collect()
    };
    let (old, mut new) = (all(old), all(new));
    new.retain(|name, value| old.get(name) != Some(value));
    new
}

fn commands(config: &DynamicConfig) -> BTreeMap<String, String> {
    let section = &config.postgresql;
    let parameters = section.parameters.iter().filter(|(name, _)| is_command(name));
    let mut found: BTreeMap<String, String> = parameters
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), written(value)?)))
        .collect();
    for (name, lines) in [("pg_hba", &section.pg_hba), ("pg_ident", &section.pg_ident)] {
        if let Some(lines) = lines {
            found.insert(name.to_owned(), lines.join(" | "));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DynamicConfig {
        let raw = serde_json::from_str(text).unwrap();
        DynamicConfig::from_raw(raw).unwrap()
    }

    #[test]
    fn what_runs_programs_is_known() {
        for name in
            ["archive_command", "Restore_Command", "shared_preload_libraries", "plperl.on_init"]
        {
            assert!(is_command(name), "{name}");
        }
        for name in ["archive_mode", "work_mem", "archive_timeout", "log_directory"] {
            assert!(!is_command(name), "{name}");
        }
    }

    #[test]
    fn changes_are_told_without_secrets() {
        let old = config(
            r#"{"postgresql": {"parameters": {"archive_command": "a", "work_mem": "1MB"}}}"#,
        );
        let new = config(
            r#"{"postgresql": {"pg_hba": ["local all all trust"], "parameters": {
                "ARCHIVE_COMMAND": "KEY=x b", "restore_command": null, "work_mem": "2MB"}}}"#,
        );
        let change = |name: &str, old: &str, new: &str| CommandChange {
            name: name.into(),
            old: old.into(),
            new: new.into(),
        };
        let expected = [
            change("archive_command", "a", "KEY=*** b"),
            change("pg_hba", "", "local all all trust"),
        ];
        assert_eq!(command_changes(&old, &new), expected);
        assert_eq!(command_changes(&new, &new), []);
    }
}
