//! What PostgreSQL and its programs find in their environment.

use std::ffi::OsString;

use crate::settings::Settings;

/// What programs need to run, and none of this process's settings and secrets: neither passwords and
/// tokens in variables of ours, which `restore_command` and the like would see, nor libpq's variables,
/// which would redirect a tool or the WAL receiver.
fn is_passed_on(name: &str) -> bool {
    matches!(name, "PATH" | "LD_LIBRARY_PATH" | "LANG" | "LANGUAGE" | "TZ")
        || name.starts_with("LC_")
}

/// All variables of a child process.
pub(crate) fn variables(settings: &Settings) -> Vec<(OsString, OsString)> {
    let passed = std::env::vars_os().filter(|(name, _)| is_passed_on(&name.to_string_lossy()));
    let own = settings.account.iter().map(|(name, value)| (name.into(), value.into()));
    passed.chain(own).collect()
}
