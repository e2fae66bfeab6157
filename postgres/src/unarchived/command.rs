//! `archive_command`, as PostgreSQL's archiver runs it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::{Limits, Tool};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::postgres::Postgres;
use crate::settings::Upstream;
use crate::upstream::COMPARED;

/// From here on PostgreSQL refuses a placeholder that it does not know.
const STRICT: u32 = 16;
const SETTINGS: &str = "SELECT pg_is_in_recovery()::text, current_setting('archive_mode'), current_setting('archive_command'), \
                        current_setting('archive_library', true), current_setting('restore_command')";

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived {
    /// It is in the archive now.
    Done,
    /// The server here archives by itself now, and it is in its queue.
    ByServer,
    /// `archive_command` failed, and the archive was seen to have the same file.
    WasThere,
    /// It is not, and why.
    Not(String),
}

/// What the server is set to.
struct Commands {
    in_recovery: String,
    mode: String,
    archive: String,
    library: String,
    restore: String,
}

impl Commands {
    /// Why nothing can be archived.
    fn obstacle(&self) -> Option<String> {
        let word = match self {
            Self { mode, .. } if mode == "off" => "archive_mode is off",
            Self { library, .. } if !library.is_empty() => {
                "an archive_library can be called by PostgreSQL's archiver only: put them into the archive \
                 by hand"
            }
            Self { archive, .. } if archive.is_empty() => "archive_command is empty",
            _ => return None,
        };
        Some(word.to_owned())
    }
}

impl Postgres {
    /// Puts a file that is kept into the archive, with the settings of the server that runs here, in its
    /// data directory. Where the command fails and the archive has the same file already, as after a
    /// crash in the middle of it or from another server, it is done, too.
    ///
    /// # Errors
    /// The server does not say what it is set to, or a file cannot be read.
    pub async fn archive_kept(&self, dir: &Path, name: &str, within: Duration) -> Result<Archived> {
        let commands = self.commands(within).await?;
        let by_itself = commands.in_recovery == "false" || commands.mode == "always";
        if by_itself && self.unarchived(within).await?.names.iter().any(|waits| waits == name) {
            return Ok(Archived::ByServer);
        }
        if let Some(obstacle) = commands.obstacle() {
            return Ok(Archived::Not(obstacle));
        }
        let file = dir.join(name);
        let path = file.display().to_string();
        let strict = self.major() >= STRICT;
        let command = match fill(&commands.archive, &[('p', &path), ('f', name)], strict) {
            Ok(command) => command,
            Err(unknown) => return Ok(Archived::Not(format!("archive_command has {unknown}"))),
        };
        let error = match self.shell("archive_command", &command, within).await {
            Ok(()) => return Ok(Archived::Done),
            Err(error) => error,
        };
        let same = self.archive_has(&commands.restore, &file, name, within).await?;
        Ok(match same {
            Some(true) => Archived::WasThere,
            Some(false) => Archived::Not(format!("the archive has another file named {name}")),
            None => Archived::Not(error.to_string()),
        })
    }

    /// Whether a file that is kept is the one that another server has under this name; `None`: it has none.
    ///
    /// # Errors
    /// The server cannot be asked, or the file cannot be read.
    pub async fn is_upstreams(
        &self,
        of: &Upstream,
        dir: &Path,
        name: &str,
        within: Duration,
    ) -> Result<Option<bool>> {
        let Some(theirs) = self.upstream_digest(of, name, within).await? else { return Ok(None) };
        let file = dir.join(name);
        let ours = blocking("the comparison with the primary", within, move || {
            let content = fs::read(&file).map_err(Error::io("read", &file))?;
            let begins = content.get(..COMPARED).unwrap_or(&content);
            let digest = ring::digest::digest(&ring::digest::SHA256, begins);
            Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        });
        Ok(Some(ours.await? == theirs))
    }

    async fn commands(&self, within: Duration) -> Result<Commands> {
        let rows =
            self.query(SETTINGS, within).await.map_err(Error::sql("SHOW archive_command"))?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
        let mut next = || row.next().flatten().unwrap_or_default();
        Ok(Commands {
            in_recovery: next(),
            mode: next(),
            archive: next(),
            library: next(),
            restore: next(),
        })
    }

    /// `None`: it gave none.
    async fn archive_has(
        &self,
        restore: &str,
        file: &Path,
        name: &str,
        within: Duration,
    ) -> Result<Option<bool>> {
        let copy = file.with_file_name("restored");
        let path = copy.display().to_string();
        let command = fill(restore, &[('p', &path), ('f', name), ('r', name)], true);
        let Some(command) = command.ok().filter(|command| !command.is_empty()) else {
            return Ok(None);
        };
        files::remove_if_there(&copy)?;
        if self.shell("restore_command", &command, within).await.is_err() {
            files::remove_if_there(&copy)?;
            return Ok(None);
        }
        let file = file.to_owned();
        blocking("the comparison with the archive", within, move || {
            let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
            let same = read(&copy)? == read(&file)?;
            files::remove_if_there(&copy)?;
            Ok(Some(same))
        })
        .await
    }

    /// By the shell, in the data directory, with the environment that the server has.
    async fn shell(&self, name: &'static str, command: &str, within: Duration) -> Result<()> {
        let settings = self.settings();
        let tool = Tool::new(name, "/bin/sh".into(), &settings).within_dir(&settings.data_dir);
        tool.arg("-c").arg(command).succeed(Limits::total(within)).await.map(drop)
    }
}

/// The command with its placeholders filled in (`%%` is a percent sign); the placeholder that is none.
fn fill(command: &str, with: &[(char, &str)], strict: bool) -> std::result::Result<String, String> {
    let (mut filled, mut rest) = (String::new(), command.chars());
    while let Some(letter) = rest.next() {
        if letter != '%' {
            filled.push(letter);
            continue;
        }
        let after = rest.next();
        match (after, with.iter().find(|(name, _)| Some(*name) == after)) {
            (_, Some((_, value))) => filled.push_str(value),
            (Some('%'), _) => filled.push('%'),
            _ if strict => {
                return Err(format!("the placeholder %{}", after.unwrap_or(' ')).trim_end().into());
            }
            _ => filled.extend(std::iter::once('%').chain(after)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_as_postgresql_does_it() {
        let with = [('p', "/wal/1"), ('f', "1")];
        let filled = fill("test ! -f /a/%f && cp %p /a/%f; date +%%s %", &with, false).unwrap();
        assert_eq!(filled, "test ! -f /a/1 && cp /wal/1 /a/1; date +%s %");
        assert_eq!(fill("date +%s %f", &with, false).unwrap(), "date +%s 1");
        assert_eq!(fill("date +%s %f", &with, true).unwrap_err(), "the placeholder %s");
        assert_eq!(fill("cp %", &with, true).unwrap_err(), "the placeholder %");
    }
}
