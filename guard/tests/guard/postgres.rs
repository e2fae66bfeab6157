//! A real PostgreSQL. Where none is installed there is nothing to test, and the tests say so.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hart_guard::{
    Armed, ClientError, Exit, Signal, Spec, guard_lives, kill_tree, privilege, spawn,
};
use hart_ha::time::Time;
use nix::sys::signal::Signal as Number;

use crate::rig::{PATIENCE, Rig, comm, eventually, patiently, send};

struct Database {
    rig: Rig,
    bin: PathBuf,
    account: Option<privilege::Account>,
}

impl Database {
    fn new() -> Option<Self> {
        let Some(bin) = newest_bin() else {
            eprintln!("not tested: no PostgreSQL in /usr/lib/postgresql");
            return None;
        };
        // PostgreSQL refuses to run as root.
        let account = privilege::is_root().then(|| privilege::lookup("postgres").unwrap());
        let database = Self { rig: Rig::new(), bin, account };
        if let Some(account) = &database.account {
            let dir = &database.rig.dir;
            std::os::unix::fs::chown(dir, Some(account.uid), Some(account.gid)).unwrap();
        }
        let data = database.data();
        let args = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C", "-D"];
        let mut initdb = database.command("initdb");
        let done = initdb.args(args).arg(&data).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        Some(database)
    }

    fn data(&self) -> PathBuf {
        self.rig.path("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir("/").stdin(Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn spec(&self) -> Spec {
        let mut spec = self.rig.spec("");
        let postgres = self.bin.join("postgres");
        let args = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=1MB"];
        spec.postgres = vec![postgres.into(), "-D".into(), self.data().into()];
        spec.postgres.extend(["-k".into(), self.rig.dir.clone().into()]);
        spec.postgres.extend(args.map(OsString::from));
        if let Some(account) = &self.account {
            spec.env.push(("HART_GUARD_TEST_USER".into(), account.name.clone().into()));
        }
        spec
    }

    fn psql(&self) -> Command {
        let mut psql = self.command("psql");
        psql.arg("-XAtq").arg("-h").arg(&self.rig.dir).args(["-U", "postgres", "-c"]);
        psql
    }

    fn query(&self, sql: &str) -> Output {
        self.psql().arg(sql).output().unwrap()
    }

    async fn answers(&self) {
        eventually("PostgreSQL", || self.query("select 1").stdout == b"1\n").await;
    }

    fn state(&self) -> String {
        let output = self.command("pg_controldata").env("LC_ALL", "C").arg(self.data()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let state = text.lines().find_map(|line| line.strip_prefix("Database cluster state:"));
        state.unwrap().trim().to_owned()
    }

    fn backends(&self) -> Vec<i32> {
        self.rig.processes().into_iter().filter(|&pid| comm(pid) == "postgres").collect()
    }

    /// A session that stays in a query until the server ends it.
    async fn busy_session(&self) -> std::process::Child {
        let sql = "select pg_sleep(3600)";
        let session = self.psql().arg(sql).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let running = "select 1 from pg_stat_activity where query = 'select pg_sleep(3600)'";
        eventually("a session", || self.query(running).stdout == b"1\n").await;
        session.unwrap()
    }
}

fn newest_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let numbers = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = numbers.max()?;
    Some(format!("/usr/lib/postgresql/{newest}/bin").into())
}

#[tokio::test]
async fn a_fast_stop_is_clean() {
    let Some(database) = Database::new() else { return };
    spawn(&database.spec(), PATIENCE).await.unwrap();
    let mut client = database.rig.client().await;
    database.answers().await;
    let mut session = database.busy_session().await;
    client.signal(Signal::Reload, PATIENCE).await.unwrap();
    client.signal(Signal::Fast, PATIENCE).await.unwrap();
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!((record.exit, record.fenced), (Exit::Code(0), false));
    assert_eq!(database.backends(), Vec::<i32>::new());
    assert_eq!(database.state(), "shut down");
    session.wait().unwrap();
}

#[tokio::test]
async fn the_fence_leaves_no_backend_and_the_next_start_recovers() {
    let Some(database) = Database::new() else { return };
    spawn(&database.spec(), PATIENCE).await.unwrap();
    let mut client = database.rig.client().await;
    database.answers().await;
    assert!(database.query("create table t as select 42 as x").status.success());
    let mut session = database.busy_session().await;
    // A backend that hears no signal but SIGKILL, and would write on after its postmaster.
    let pid = "select pid from pg_stat_activity where query = 'select pg_sleep(3600)'";
    let pid = String::from_utf8(database.query(pid).stdout).unwrap().trim().parse().unwrap();
    send(pid, Number::SIGSTOP);
    let soon = hart_clock::now() + std::time::Duration::from_millis(100);
    client.arm(1, soon, PATIENCE).await.unwrap();
    let record = patiently("the fence", client.exited()).await.unwrap();
    assert_eq!(database.backends(), Vec::<i32>::new());
    assert!(record.fenced);
    assert_eq!(database.state(), "in production");
    session.wait().unwrap();

    spawn(&database.spec(), PATIENCE).await.unwrap();
    database.answers().await;
    assert_eq!(database.query("select x from t").stdout, b"42\n");
}

#[tokio::test]
async fn a_crash_takes_its_backends_along() {
    let Some(database) = Database::new() else { return };
    let started = spawn(&database.spec(), PATIENCE).await.unwrap();
    let mut client = database.rig.client().await;
    database.answers().await;
    database.backends().into_iter().filter(|&pid| pid != started.postmaster_pid).for_each(|pid| {
        send(pid, Number::SIGSTOP);
    });
    send(started.postmaster_pid, Number::SIGKILL);
    let record = patiently("the end", client.exited()).await.unwrap();
    assert_eq!(database.backends(), Vec::<i32>::new());
    assert_eq!((record.exit, record.fenced), (Exit::Signal(9), false));
}

#[tokio::test]
async fn without_a_guard_postgres_ends_and_stopped_leftovers_can_be_killed() {
    let Some(database) = Database::new() else { return };
    let started = spawn(&database.spec(), PATIENCE).await.unwrap();
    let mut client = database.rig.client().await;
    database.answers().await;
    let backends = database.backends();
    let stopped = *backends.iter().find(|&&pid| pid != started.postmaster_pid).unwrap();
    send(stopped, Number::SIGSTOP);
    send(started.guard_pid, Number::SIGKILL);
    let end = patiently("the guard's end", client.exited()).await;
    assert!(matches!(end, Err(ClientError::Closed)), "{end:?}");
    // A dying process closes its files one by one: the lock may go after the connection.
    let lock = database.rig.path("lock");
    eventually("the lock's end", || !guard_lives(&lock).unwrap()).await;
    // The postmaster is on its way out by the kernel's SIGQUIT; whatever is left goes now.
    let deadline = hart_clock::now() + PATIENCE;
    let killed =
        kill_tree(Some(started.postmaster_pid), &database.data(), deadline, || ()).await.unwrap();
    assert!(killed >= 1, "the stopped one at least");
    eventually("their end", || database.backends().is_empty()).await;
    spawn(&database.spec(), PATIENCE).await.unwrap();
    database.answers().await;
}

#[tokio::test]
async fn what_the_guard_leaves_starts_read_only() {
    let Some(database) = Database::new() else { return };
    let signal = database.data().join("standby.signal");
    let mut spec = database.spec();
    spec.standby_signal = Some(signal.clone());
    spawn(&spec, PATIENCE).await.unwrap();
    let mut client = database.rig.client().await;
    database.answers().await;
    assert!(database.query("create table t ()").status.success());
    assert!(!signal.exists(), "a backend's crash would make a standby of it");
    client.fence(PATIENCE).await.unwrap();
    patiently("the end", client.exited()).await.unwrap();
    assert!(signal.exists());
    spawn(&spec, PATIENCE).await.unwrap();
    database.answers().await;
    assert_eq!(database.query("select pg_is_in_recovery()").stdout, b"t\n");
    assert!(!database.query("create table u ()").status.success());
}

/// In a pause people may stop a primary and start it again by hand, as it was.
#[tokio::test]
async fn a_primary_without_a_deadline_that_is_stopped_by_hand_is_left_as_it_is() {
    for by_hand in [true, false] {
        let Some(database) = Database::new() else { return };
        let signal = database.data().join("standby.signal");
        let mut spec = database.spec();
        spec.standby_signal = Some(signal.clone());
        spec.arm = Some(Armed { term: 3, deadline: Time::NEVER });
        let started = spawn(&spec, PATIENCE).await.unwrap();
        let mut client = database.rig.client().await;
        database.answers().await;
        if by_hand {
            send(started.postmaster_pid, Number::SIGINT);
        } else {
            client.signal(Signal::Fast, PATIENCE).await.unwrap();
        }
        let record = patiently("the end", client.exited()).await.unwrap();
        assert!(record.exit.is_clean() && !record.fenced, "{record}");
        assert_eq!(signal.exists(), !by_hand);
    }
}
