//! Clients that write without a pause.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls};

use super::seen::Seen;
use crate::lab::Host;
use crate::process::Process;

/// The program of those that use libpq.
const PROGRAM: &str = include_str!("writer.py");
/// Debian's, which has its drivers; another one on the path may not.
pub(super) const PYTHON: &str = "/usr/bin/python3";
/// Between two rows, and after an error: as the program above has it.
const PAUSE: Duration = Duration::from_millis(20);
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// tokio-postgres has no bound of its own for the server's first word and for an answer.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(10);

/// A client that writes until it is dropped.
#[derive(Debug)]
pub struct Writer {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Program(Process),
    Thread(Thread),
}

#[derive(Debug)]
struct Thread {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// By libpq; `resolv` takes the place of the host's `/etc/resolv.conf`.
    pub(super) fn program(
        host: &Host,
        resolv: Option<&Path>,
        (driver, dsn, way): (&str, &str, &str),
        log: &Path,
    ) -> Result<Self> {
        let mut command = resolving(resolv, PYTHON);
        command.args(["-c", PROGRAM, driver, dsn, way]);
        Ok(Self { inner: Inner::Program(host.start(&mut command, log)?) })
    }

    /// By tokio-postgres.
    pub(super) fn tokio(host: &Host, config: Config, way: &'static str) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        let thread = host.thread(move || write(config, way, shared, stopped))?;
        Ok(Self { inner: Inner::Thread(Thread { seen, stop, thread: Some(thread) }) })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        match &self.inner {
            Inner::Program(process) => {
                let text = process.log();
                // The last line may be half written.
                Seen::parse(text.rsplit_once('\n').map_or("", |(whole, _)| whole))
            }
            Inner::Thread(thread) => {
                thread.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("a client could not run: {error:#}");
        }
    }
}

/// A command that sees `resolv` as its `/etc/resolv.conf`, in a mount namespace of its own: nothing
/// of it is left on the machine.
pub(super) fn resolving(resolv: Option<&Path>, program: &str) -> Command {
    let Some(resolv) = resolv else { return Command::new(program) };
    let mut command = Command::new("unshare");
    let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", mount]).arg(resolv).arg(program);
    command
}

/// Seconds on the clock of Python's `time.monotonic`.
#[must_use]
pub(super) fn monotonic() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)).as_secs_f64()
}

async fn write(
    config: Config,
    way: &'static str,
    seen: Arc<Mutex<Seen>>,
    mut stop: watch::Receiver<bool>,
) {
    let writing = async {
        let (mut client, mut row) = (None, 0);
        loop {
            row += 1;
            let done = one(&config, way, &mut client, row).await;
            let now = monotonic();
            let pause = {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match done {
                    Ok(()) => {
                        seen.rows.push((now, row));
                        PAUSE
                    }
                    Err((what, error)) => {
                        client = None;
                        seen.errors.push((now, format!("{what} {error:#}")));
                        AFTER_ERROR
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = writing => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

type Failed = (&'static str, anyhow::Error);

async fn one(
    config: &Config,
    way: &'static str,
    client: &mut Option<Client>,
    row: i64,
) -> Result<(), Failed> {
    if client.is_none() {
        *client = Some(connect(config).await.map_err(|error| ("connect", error))?);
    }
    let client = client.as_ref().context("connected").map_err(|error| ("connect", error))?;
    let sql = format!("insert into clients values ('{way}', {row})");
    let written = tokio::time::timeout(ANSWER, client.batch_execute(&sql)).await;
    let written = written.context("no answer").and_then(|written| Ok(written?));
    written.map_err(|error| ("write", error))
}

async fn connect(config: &Config) -> Result<Client> {
    let connected = tokio::time::timeout(CONNECT, config.connect(NoTls)).await;
    let (client, connection) = connected.context("not connected in time")??;
    // It ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

/// The log of a way's writer.
pub(super) fn log(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("writer-{number}.log"))
}
