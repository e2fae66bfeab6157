//! What is installed on this machine and does not run yet: a newer hart, a newer PostgreSQL. And of which
//! version the guard is that runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_postgres::Postgres;
use tokio::sync::watch;

use super::replace::program::{Program, Stamp, version_of};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(3);
/// How long a program may take to say its version.
const SAY: Duration = Duration::from_secs(5);

/// The versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Of the hart at the agent's own path, where that is another file than the one that runs.
    pub hart: Option<String>,
    /// Of PostgreSQL's programs, as `server_version_num` has it; `None` until they have said it.
    pub postgres: Option<u32>,
    /// Of the guard that runs; `None` without one, or where it cannot be told.
    pub guard: Option<String>,
}

/// Looks again and again, for as long as somebody wants to know. `guards` has the process id of the guard,
/// 0 while there is none.
pub fn watch(
    program: Program,
    postgres: Postgres,
    guards: watch::Receiver<i32>,
) -> watch::Receiver<Installed> {
    let (sender, installed) = watch::channel(Installed::default());
    let watcher = Watcher { program, postgres, guards, hart: None, server: None, guard: 0 };
    tokio::spawn(watcher.run(sender));
    installed
}

struct Watcher {
    program: Program,
    postgres: Postgres,
    guards: watch::Receiver<i32>,
    /// What was looked at last, so that a program is asked once.
    hart: Option<Stamp>,
    server: Option<Stamp>,
    guard: i32,
}

impl Watcher {
    async fn run(mut self, sender: watch::Sender<Installed>) {
        let mut known = Installed::default();
        while !sender.is_closed() {
            self.look(&mut known).await;
            sender.send_if_modified(|shown| std::mem::replace(shown, known.clone()) != known);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = self.guards.changed() => {}
            }
        }
    }

    async fn look(&mut self, known: &mut Installed) {
        let (program, server) = (self.program.clone(), self.postgres.server_program().ok());
        let look = move || (program.newer(), server.and_then(|path| Stamp::of(&path).ok()));
        // A file system that hangs holds up this task only.
        let Ok((hart, server)) = tokio::task::spawn_blocking(look).await else { return };
        if hart != self.hart {
            known.hart = match hart {
                Some(_) => version_of(&self.program.path).await.ok(),
                None => None,
            };
            self.hart = hart;
        }
        if server.is_some() && server != self.server {
            let version = self.postgres.version(SAY).await.ok();
            known.postgres = version.map(|version| version.number());
            self.server = server;
        }
        let guard = *self.guards.borrow_and_update();
        if guard != self.guard {
            known.guard = if guard > 0 { self.guard_version(guard).await } else { None };
            self.guard = guard;
        }
    }

    /// The guard was started from the file that ran then, which may be gone; the kernel has it still.
    async fn guard_version(&self, guard: i32) -> Option<String> {
        let path = PathBuf::from(format!("/proc/{guard}/exe"));
        let stamp = Stamp::of(&path).ok();
        if stamp.is_some() && stamp == self.program.runs {
            return Some(env!("CARGO_PKG_VERSION").to_owned());
        }
        if !is_guard(guard) {
            return None;
        }
        version_of(Path::new(&path)).await.ok()
    }
}

/// Whether the process is a guard at all, by the name that guards give themselves.
fn is_guard(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("hart-guard")
}
