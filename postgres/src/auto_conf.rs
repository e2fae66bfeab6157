//! `postgresql.auto.conf`, which PostgreSQL reads last: what `ALTER SYSTEM` or `pg_basebackup -R` has
//! left there wins over every other file. Settings that are hart's own are taken out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::parameters;
use crate::postgres::Postgres;
use crate::quote::ident;
use crate::settings::{RunAs, Settings};

/// Put before a line that was taken out. The line may hold a password, so it stays in this file alone.
const TAKEN_OUT: &[u8] = b"# taken out by hart: ";
/// Says whether `ALTER SYSTEM` is refused to everybody (from PostgreSQL 17 on).
const FORBIDDEN: &str = "SELECT current_setting('allow_alter_system', true) = 'off'";

impl Postgres {
    /// Takes what is hart's own out of `postgresql.auto.conf` before a start, and says so.
    ///
    /// # Errors
    /// See [`Postgres::clean_auto_conf`].
    pub(crate) async fn take_out_of_auto_conf(&self, within: Duration) -> Result<()> {
        let names = self.clean_auto_conf(within).await?;
        if !names.is_empty() {
            tracing::warn!(
                "postgresql.auto.conf set what is hart's own, and would have won over it: {}; the \
                 lines were made comments",
                names.join(", ")
            );
        }
        Ok(())
    }

    /// Makes comments of the lines of `postgresql.auto.conf` that set what is hart's own; all other
    /// lines stay as they are. Only while the server is down, or cannot write the file itself. Returns
    /// the names that were set there.
    ///
    /// # Errors
    /// The file cannot be read or written, or is a link to a file of another user.
    async fn clean_auto_conf(&self, within: Duration) -> Result<Vec<String>> {
        let (settings, lock) = (self.settings(), self.files_lock());
        blocking("taking settings out of postgresql.auto.conf", within, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            clean(&settings)
        })
        .await
    }

    /// Puts hart's own values of these settings in force again.
    ///
    /// # Errors
    /// `postgresql.auto.conf` cannot be read, or the server does not do it.
    pub async fn take_back(&self, names: &[&str], within: Duration) -> Result<()> {
        self.reset_auto_conf(names, within).await?;
        self.reload(within).await
    }

    /// Takes these settings out of `postgresql.auto.conf` while the server runs, where they are in it.
    /// What is in force changes with the next reload.
    ///
    /// # Errors
    /// The file cannot be read, or the server does not do it.
    pub(crate) async fn reset_auto_conf(&self, names: &[&str], within: Duration) -> Result<()> {
        let settings = self.settings();
        let set = blocking("reading postgresql.auto.conf", within, move || {
            let text = files::read_optional(&path(&settings))?.unwrap_or_default();
            Ok(text.split_inclusive(|b| *b == b'\n').filter_map(name_set_by).collect::<Vec<_>>())
        })
        .await?;
        for name in names.iter().filter(|name| set.iter().any(|found| found == *name)) {
            let sql = format!("ALTER SYSTEM RESET {}", ident(name));
            if let Err(error) = self.query(&sql, within).await {
                let answer = self.query(FORBIDDEN, within).await.unwrap_or_default();
                if answer.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
                    return Err(Error::sql("ALTER SYSTEM RESET")(error));
                }
                // Then the server does not write the file either.
                self.clean_auto_conf(within).await?;
            }
            tracing::warn!(
                "{name} was set in postgresql.auto.conf, past hart: taken out (ALTER SYSTEM RESET)"
            );
        }
        Ok(())
    }
}

fn path(settings: &Settings) -> PathBuf {
    settings.data_dir.join("postgresql.auto.conf")
}

/// Takes out what a restore has left of a recovery that is not to happen.
pub(crate) fn drop_recovery(settings: &Settings) -> Result<()> {
    clean_of(settings, |name| {
        name.starts_with("recovery_") && name != "recovery_min_apply_delay"
            || matches!(name, "restore_command" | "archive_cleanup_command" | "standby_mode")
            || parameters::is_kept_in_files(settings, name)
    })
    .map(drop)
}

fn clean(settings: &Settings) -> Result<Vec<String>> {
    clean_of(settings, |name| parameters::is_kept_in_files(settings, name))
}

fn clean_of(settings: &Settings, ours: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let path = path(settings);
    let Some(text) = files::read_optional(&path)? else { return Ok(Vec::new()) };
    let (cleaned, names) = without(&text, ours);
    if names.is_empty() {
        return Ok(names);
    }
    // The file behind a link, so that the link stays.
    let path = fs::canonicalize(&path).map_err(Error::io("find", &path))?;
    let found = fs::metadata(&path).map_err(Error::io("look at", &path))?;
    if found.uid() != settings.owner().uid {
        return Err(Error::ForeignFile { path, uid: found.uid(), names: names.join(", ") });
    }
    let owner = settings.run_as.map(|_| RunAs { uid: found.uid(), gid: found.gid() });
    files::write_atomic(&path, &cleaned, found.permissions().mode() & 0o7777, owner)?;
    Ok(names)
}

/// The text with comments in the place of the lines that set what is `ours`, and what they set.
fn without(text: &[u8], ours: impl Fn(&str) -> bool) -> (Vec<u8>, Vec<String>) {
    let (mut out, mut names) = (Vec::with_capacity(text.len()), Vec::new());
    for line in text.split_inclusive(|b| *b == b'\n') {
        if let Some(name) = name_set_by(line).filter(|name| ours(name)) {
            out.extend_from_slice(TAKEN_OUT);
            names.push(name);
        }
        out.extend_from_slice(line);
    }
    (out, names)
}

/// What a line sets, in lower case. A setting never goes on in the next line.
fn name_set_by(line: &[u8]) -> Option<String> {
    let line = line.trim_ascii_start();
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.');
    let name: Vec<u8> = line.iter().copied().take_while(is_part).collect();
    let name = String::from_utf8(name).ok()?.to_ascii_lowercase();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("hart-ac-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn only_what_is_harts_own_becomes_a_comment() {
        let text = b"# Do not edit this file manually!\nwork_mem = '8MB'\n\
            primary_conninfo = 'host=a password=geheim'\r\n  Recovery_Target_Name='x'\n\
            #primary_slot_name = 'kept'\n\xff\xfe odd\nsearch_path = 'primary_conninfo'\n\
            SYNCHRONOUS_STANDBY_NAMES \t'*'";
        let settings = Settings::new("demo", "n1", "/nonexistent");
        let (out, names) = without(text, |name| parameters::is_kept_in_files(&settings, name));
        let wanted = b"# Do not edit this file manually!\nwork_mem = '8MB'\n\
            # taken out by hart: primary_conninfo = 'host=a password=geheim'\r\n\
            # taken out by hart:   Recovery_Target_Name='x'\n\
            #primary_slot_name = 'kept'\n\xff\xfe odd\nsearch_path = 'primary_conninfo'\n\
            # taken out by hart: SYNCHRONOUS_STANDBY_NAMES \t'*'";
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(wanted));
        assert_eq!(
            names,
            ["primary_conninfo", "recovery_target_name", "synchronous_standby_names"]
        );
        let again = without(&out, |name| parameters::is_kept_in_files(&settings, name));
        assert_eq!(again, (out, vec![]));
    }

    #[test]
    fn a_restore_command_is_harts_only_where_hart_sets_one() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        assert!(!parameters::is_kept_in_files(&settings, "restore_command"));
        settings.recovery.insert("restore_command".into(), "cp".into());
        assert!(parameters::is_kept_in_files(&settings, "restore_command"));
        assert!(
            !parameters::is_kept_in_files(&settings, "max_connections"),
            "the command line wins"
        );
    }

    #[test]
    fn links_and_permissions_stay() {
        let dir = dir("link");
        let (real, link) = (dir.join("real"), dir.join("postgresql.auto.conf"));
        fs::write(&real, "primary_slot_name = 'old'\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        let settings = Settings::new("demo", "n1", &dir);
        assert_eq!(clean(&settings).unwrap(), ["primary_slot_name"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
        let text = fs::read_to_string(&real).unwrap();
        assert_eq!(text, "# taken out by hart: primary_slot_name = 'old'\n");
        assert!(clean(&settings).unwrap().is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_link_to_a_file_of_another_user_is_left_alone() {
        let dir = dir("foreign");
        let file = dir.join("postgresql.auto.conf");
        fs::write(&file, "primary_slot_name = 'old'\n").unwrap();
        let mut settings = Settings::new("demo", "n1", &dir);
        let uid = fs::metadata(&file).unwrap().uid() + 1;
        settings.run_as = Some(RunAs { uid, gid: 0 });
        let error = clean(&settings).unwrap_err();
        assert!(error.to_string().contains("primary_slot_name"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "primary_slot_name = 'old'\n");
        fs::remove_dir_all(&dir).unwrap();
    }
}
