//! Who works in the data directory: asked of the kernel at that moment, of nobody's memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::settings::Settings;

/// PostgreSQL's processes in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtWork {
    /// The postmaster; where there is none any more, one of those that outlived it.
    pub pid: i32,
    /// How many processes there are.
    pub count: usize,
    /// A postmaster, which clients may reach: neither a standalone backend nor what outlived one.
    pub serves: bool,
    /// Which one it is and who started it, as far as that can be told.
    pub words: String,
}

impl Postgres {
    /// Who works in the data directory; `None`: nobody. One look at a time: where a disk hangs, the
    /// looks after it give up at their deadline and hold no thread.
    ///
    /// # Errors
    /// It cannot be told, or not within the time.
    pub async fn at_work(&self, within: Duration) -> Result<Option<AtWork>> {
        const WHAT: &str = "the look for processes in the data directory";
        let late = |_| Error::Deadline { what: WHAT, within };
        let turn = timeout(within, self.looks_lock().lock_owned()).await.map_err(late)?;
        let settings = self.settings();
        blocking(WHAT, within, move || {
            let _turn = turn;
            look(&settings)
        })
        .await
    }
}

fn look(settings: &Settings) -> Result<Option<AtWork>> {
    let processes = postmaster::working_in(&settings.data_dir)?;
    let owner = postmaster::find(settings)?;
    let serves = owner.as_ref().is_some_and(|owner| !owner.standalone);
    let named = owner.map(|owner| owner.pid);
    let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| processes.contains(&parent));
    let eldest = processes.iter().find(|pid| !is_child(pid)).or(processes.first()).copied();
    Ok(named.or(eldest).map(|pid| {
        let what = if named.is_some() { "postmaster" } else { "process" };
        let words = format!("{what} {pid}, {}", origin(pid));
        AtWork { pid, count: processes.len(), serves, words }
    }))
}

/// Who started it. A parent that has gone, as pg_ctl does, leaves its service or session to name.
fn origin(pid: i32) -> String {
    if let Some(parent) = parent(pid).filter(|parent| *parent > 1)
        && let Some(name) = name(parent)
    {
        return format!("started by {name} (process {parent})");
    }
    let unit = unit(pid).filter(|found| unit("self") != Some(found.clone()));
    match unit {
        Some(unit) if unit.ends_with(".service") => format!("started by the service {unit}"),
        Some(unit) => format!("started in {unit}"),
        None => "whoever started it has gone, as pg_ctl has after a start".to_owned(),
    }
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat(pid, 4)
}

/// A field of `/proc/<pid>/stat` behind the name, by its number in proc(5).
pub(crate) fn stat<T: std::str::FromStr>(pid: i32, field: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain some itself.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// The service or session by its cgroup (cgroups(7)).
fn unit(pid: impl std::fmt::Display) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let parts = || Path::new(path).iter().filter_map(|part| part.to_str());
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    parts().rev().find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_postgresql_in_this_directory_counts() {
        let dir = std::env::temp_dir().join(format!("hart-aw-{}", std::process::id()));
        let (here, there) = (dir.join("here"), dir.join("there"));
        for dir in [&here, &there] {
            fs::create_dir_all(dir).unwrap();
        }
        let program = dir.join("postgres");
        fs::copy("/bin/sleep", &program).unwrap();
        let start = |program: &Path, dir: &Path| {
            std::process::Command::new(program).arg("600").current_dir(dir).spawn().unwrap()
        };
        let postgres = Postgres::new(Settings::new("demo", "n1", &here));
        let within = Duration::from_secs(60);
        let mut others = [start(&program, &there), start(Path::new("/bin/sleep"), &here)];
        let before = postgres.at_work(within).await;
        let mut stray = start(&program, &here);
        let found = postgres.at_work(within).await;
        stray.kill().unwrap();
        stray.wait().unwrap();
        let after = postgres.at_work(within).await;
        for other in &mut others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((before.unwrap(), after.unwrap()), (None, None));
        let found = found.unwrap().unwrap();
        assert_eq!((found.pid, found.count), (i32::try_from(stray.id()).unwrap(), 1));
        let me = format!("(process {})", std::process::id());
        assert!(found.words.contains(&me), "{}", found.words);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_has_nobody_at_work() {
        let postgres = Postgres::new(Settings::new("demo", "n1", Path::new("/no/such/directory")));
        assert_eq!(postgres.at_work(Duration::from_secs(60)).await.unwrap(), None);
    }

    /// A look that hangs must not be taken for one that found nobody, nor must others queue behind it.
    #[tokio::test]
    async fn while_a_look_hangs_the_next_one_gives_up() {
        let postgres = Postgres::new(Settings::new("demo", "n1", Path::new("/")));
        let hung = postgres.looks_lock().lock_owned().await;
        let late = postgres.at_work(Duration::from_millis(10)).await;
        assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
        drop(hung);
        assert_eq!(postgres.at_work(Duration::from_secs(60)).await.unwrap(), None);
    }
}
