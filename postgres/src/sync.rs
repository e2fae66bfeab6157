//! Synchronous replication: setting the names, and proving that commits wait for them.
//!
//! `SHOW` proves little: a backend waits when a flag in shared memory says so, and only the
//! checkpointer sets that flag, some time after the reload. Likewise each sender releases waiting
//! commits by the names that it has read itself. So commits are first made to wait for a name that
//! nobody carries; when one of our own is seen waiting, and no sender counts as synchronous any more,
//! the real names follow, and only a sender that has read them can let our commit go.

use std::sync::Arc;
use std::time::Duration;

use hart_ha::waits::{NOBODY, Waits};
use hart_types::Chain;
use nix::sys::signal::Signal;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::link::Session;
use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::settings::Settings;
use crate::sync_file::SyncFile;

const NAMES: &[&str] = &["synchronous_standby_names"];
/// A commit that writes WAL, so that it waits; an assigned transaction ID alone would not.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'hart', '')";
/// First and longest pause between looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// A standby that breaks its connection to follow anew is back within this time. All commits wait
/// meanwhile.
const ABSENT: Duration = Duration::from_secs(1);
/// Putting the former value back may take this long.
const RESTORE: Duration = Duration::from_secs(5);

impl Postgres {
    /// Writes `synchronous_standby_names`, reloads, and waits until a session shows the value. An
    /// empty value lets every waiting commit go. Does not prove that commits wait; see
    /// [`Postgres::enable_sync`].
    ///
    /// # Errors
    /// [`Error::Overridden`] when something else sets it, or the server cannot be asked. The value
    /// stays written.
    pub async fn set_synchronous_standby_names(&self, value: &str, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        self.reset_auto_conf(NAMES, within).await?;
        self.write_synchronous_standby_names(value, within).await?;
        self.reload(within).await?;
        self.shown(value, until).await
    }

    /// Writes `synchronous_standby_names` for the next start of a server that is down, so that
    /// its first commit waits already.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn write_synchronous_standby_names(
        &self,
        value: &str,
        within: Duration,
    ) -> Result<()> {
        let _turn = self.sync_turn(within).await?;
        let file = Closing(self.sync_file(within).await?);
        file.0.write(value, within).await
    }

    /// Lets a running standby rest with names that nobody bears, or with those given. Nothing is done where
    /// it is a primary, or is about to be.
    ///
    /// # Errors
    /// The server cannot be asked, or the file cannot be written.
    pub async fn rest_names(&self, nobody: bool, within: Duration) -> Result<()> {
        let _turn = self.sync_turn(within).await?;
        let asked = self.query("SELECT pg_is_in_recovery()", within).await;
        let rows = asked.map_err(Error::sql("asking whether the server is a standby"))?;
        let standby = rows.first().and_then(|row| row.first()?.as_deref()) == Some("t");
        if self.awake().is_awake() || !standby {
            return Ok(());
        }
        let settings = self.settings();
        let value = if nobody { NOBODY } else { &settings.standby_names };
        let file = Closing(self.sync_file(within).await?);
        file.0.write(value, within).await?;
        self.reload(within).await
    }

    /// For a standby that is promoted ([`Postgres::is_to_lead`]): its first commits wait for nobody, or
    /// for whom the given names ([`Settings::standby_names`](crate::Settings)) let them wait. Nothing is
    /// done where it has ended meanwhile, for it rests then.
    ///
    /// # Errors
    /// The file cannot be written, or the server not be told.
    pub async fn wake_names(&self, within: Duration) -> Result<()> {
        let _turn = self.sync_turn(within).await?;
        let file = Closing(self.sync_file(within).await?);
        let settings = self.settings();
        if !self.awake().is_awake() || file.0.has(&settings.standby_names) {
            return Ok(());
        }
        file.0.write(&settings.standby_names, within).await?;
        self.reload(within).await
    }

    /// One change at a time; they would restore each other's values.
    async fn sync_turn(&self, within: Duration) -> Result<OwnedMutexGuard<()>> {
        let what = "the turn to change synchronous_standby_names";
        let late = |_| Error::Deadline { what, within };
        timeout(within, self.sync_lock().lock_owned()).await.map_err(late)
    }

    async fn shown(&self, wanted: &str, until: Instant) -> Result<()> {
        let sql = "SELECT setting, coalesce(sourcefile, source) FROM pg_settings \
                   WHERE name = 'synchronous_standby_names'";
        let mut pause = LOOK.0;
        let mut seen = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let rows = match (self.query(sql, left).await, seen) {
                (Ok(rows), _) => rows,
                // The last look had hardly any time; what the one before saw is the cause.
                (Err(LinkError::Timeout { .. }), Some(overridden)) => return Err(overridden),
                (Err(error), _) => {
                    return Err(Error::sql("reading synchronous_standby_names")(error));
                }
            };
            let field = |n: usize| {
                rows.first().and_then(|row| row.get(n).cloned().flatten()).unwrap_or_default()
            };
            if field(0) == wanted {
                return Ok(());
            }
            let overridden = Error::Overridden {
                name: "synchronous_standby_names",
                wanted: wanted.to_owned(),
                actual: field(0),
                set_in: field(1),
            };
            if left <= pause {
                return Err(overridden);
            }
            seen = Some(overridden);
            sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Sets `synchronous_standby_names` on a primary and proves it: after `Ok` every later commit
    /// waits for these names, and they have just confirmed one. Commits of clients wait meanwhile,
    /// some ten milliseconds as a rule. On an error, after the deadline, or when the future is
    /// dropped, the former value is back in force.
    ///
    /// # Errors
    /// [`Error::Sync`] with the step that did not come true.
    pub async fn enable_sync(&self, names: &str, within: Duration) -> Result<()> {
        if names.is_empty() {
            return self.set_synchronous_standby_names(names, within).await;
        }
        let until = Instant::now() + within;
        let failed = |why: String| Error::Sync { names: names.to_owned(), why };
        let open = || Error::sql("connecting for the proof of synchronous commits");
        let _turn = self.sync_turn(within).await?;
        let settings = self.settings();
        let waiter = Session::open(&settings, self.major(), within).await.map_err(open())?;
        self.reset_auto_conf(NAMES, within).await?;
        let before = self.names_in_force(within).await.map_err(open())?;
        let file = self.sync_file(within).await?;
        let undo = Undo(Some((settings, file.clone())));
        let proof = Proof { postgres: self, before, file, waiter, until, within };
        match proof.run(names).await {
            Ok(()) => {
                undo.keep();
                Ok(())
            }
            Err(why) => {
                blocking("restoring synchronous_standby_names", RESTORE, move || {
                    drop(undo);
                    Ok(())
                })
                .await?;
                proof.waiter.abandon();
                Err(failed(why))
            }
        }
    }
}

impl Postgres {
    /// What a session of now is shown.
    async fn names_in_force(&self, within: Duration) -> std::result::Result<String, LinkError> {
        let rows = self.query("SHOW synchronous_standby_names", within).await?;
        let name = rows.into_iter().flatten().next().flatten();
        Ok(name.unwrap_or_default())
    }
}

/// Ends the right to write when the caller goes away.
struct Closing(Arc<SyncFile>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Puts the former value back unless told to keep the new one.
struct Undo(Option<(Arc<Settings>, Arc<SyncFile>)>);

impl Undo {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some((settings, file)) = self.0.take() else { return };
        let restored = file.restore();
        let told = postmaster::signal(&settings, "reload", Signal::SIGHUP);
        if let Err(error) = restored.and(told) {
            tracing::error!(%error, "could not restore synchronous_standby_names");
        }
    }
}

struct Proof<'a> {
    postgres: &'a Postgres,
    /// The names that were in force when it began.
    before: String,
    file: Arc<SyncFile>,
    waiter: Session,
    until: Instant,
    within: Duration,
}

impl Proof<'_> {
    async fn run(&self, names: &str) -> Result<(), String> {
        let text = |e: Error| Chain(&e).to_string();
        self.file.write(NOBODY, self.within).await.map_err(text)?;
        self.postgres.reload(self.within).await.map_err(text)?;
        let set = "SET synchronous_commit TO on; SELECT pg_backend_pid()";
        let pid = self.waiter.value(set, self.until, self.within).await.map_err(sql)?;
        let pid = pid.unwrap_or_default();
        let mut others = std::pin::pin!(self.others_are_in_force(names));
        loop {
            let commit = self.waiter.query(COMMIT, self.until, self.within);
            let mut commit = std::pin::pin!(commit);
            tokio::select! {
                // It did not wait: the server has not taken the names up yet.
                done = &mut commit => {
                    done.map_err(sql)?;
                    sleep(LOOK.0).await;
                    continue;
                }
                seen = self.seen_waiting(&pid) => seen?,
                found = &mut others => return Err(found),
            }
            // Commits wait now, and will until a sender reads the real names.
            self.file.write(names, self.within).await.map_err(text)?;
            self.postgres.reload(self.within).await.map_err(text)?;
            return tokio::select! {
                done = &mut commit => done.map(drop).map_err(|_| {
                    "the named standbys did not confirm a commit; they must be connected with these \
                     application names and streaming".to_owned()
                }),
                failed = self.keep_nudging() => Err(failed),
                gone = self.too_few_are_there(names) => Err(gone),
                found = &mut others => Err(found),
            };
        }
    }

    /// Returns when somebody has set other names meanwhile: by `ALTER SYSTEM`, say. Commits wait for
    /// those then, or for nobody, and this attempt proves nothing any more.
    async fn others_are_in_force(&self, names: &str) -> String {
        loop {
            sleep(LOOK.1).await;
            let shown = self.postgres.names_in_force(self.left()).await;
            let Ok(shown) = shown else { continue };
            if ![self.before.as_str(), NOBODY, names].contains(&shown.as_str()) {
                return format!("synchronous_standby_names was changed meanwhile, to {shown:?}");
            }
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Returns when our commit waits and no sender counts as synchronous.
    async fn seen_waiting(&self, pid: &str) -> Result<(), String> {
        let question = format!(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid} AND \
             wait_event = 'SyncRep') AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE \
             sync_priority > 0)"
        );
        let mut pause = LOOK.0;
        loop {
            let answer = self.postgres.query(&question, self.left()).await.map_err(sql)?;
            if answer.first().and_then(|row| row.first()?.as_deref()) == Some("t") {
                return Ok(());
            }
            if Instant::now() >= self.until {
                return Err("a commit was not seen to wait".to_owned());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Returns when so many of the named standbys have gone that no commit can be confirmed: they ended
    /// meanwhile, and every client's commit would wait until the deadline for nothing.
    async fn too_few_are_there(&self, names: &str) -> String {
        let Some(waits) = Waits::read(names) else { return std::future::pending().await };
        let mut gone_since = None;
        loop {
            sleep(LOOK.1).await;
            let sql = "SELECT application_name FROM pg_stat_replication WHERE state <> 'backup'";
            let Ok(rows) = self.postgres.query(sql, self.left()).await else { continue };
            let rows: Vec<_> = rows.iter().flatten().flatten().collect();
            let there = |name: &&String| rows.iter().any(|row| row.eq_ignore_ascii_case(name));
            if waits.of.iter().filter(there).count() >= waits.need {
                gone_since = None;
            } else if gone_since.get_or_insert_with(Instant::now).elapsed() >= ABSENT {
                return "too few of the named standbys are connected".to_owned();
            }
        }
    }

    /// Senders release waiting commits when a standby replies, and an idle standby replies every
    /// ten seconds. New WAL makes it reply at once.
    async fn keep_nudging(&self) -> String {
        let mut pause = LOOK.0;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
            if let Err(error) = self.postgres.query(COMMIT, self.left()).await
                && !matches!(error, LinkError::Timeout { .. })
            {
                return sql(error);
            }
            if Instant::now() >= self.until {
                // The waiting commit has the same deadline and tells it better.
                sleep(LOOK.1).await;
                return "the named standbys did not confirm a commit in time".to_owned();
            }
        }
    }
}

fn sql(error: LinkError) -> String {
    Chain(&error).to_string()
}
