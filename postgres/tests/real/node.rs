//! One PostgreSQL of a test, and everything that it leaves cleaned up.

use std::fs::{self, File};
use std::future::Future;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hart_postgres::{
    BaseBackup, Credentials, Error, LinkError, Postgres, Probe, Role, RunAs, Settings, ToolOption,
    Upstream,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio::time::{Instant, sleep};

/// Generous: the machine may be busy.
pub const LONG: Duration = Duration::from_secs(120);

pub struct Node {
    pub postgres: Postgres,
    pub dir: PathBuf,
    pub child: Option<Child>,
}

fn run_as() -> Option<RunAs> {
    let user = || User::from_name("postgres").unwrap().expect("user postgres exists");
    geteuid().is_root().then(user).map(|u| RunAs { uid: u.uid.as_raw(), gid: u.gid.as_raw() })
}

/// Whom the files of a test belong to.
pub fn owner() -> Option<(u32, u32)> {
    run_as().map(|RunAs { uid, gid }| (uid, gid))
}

fn new_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Short: the path of a Unix socket has at most 107 bytes.
    let dir = PathBuf::from(format!("/tmp/hp{}-{number}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(RunAs { uid, gid }) = run_as() {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    dir
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Node {
    pub fn new(name: &str) -> Self {
        let dir = new_dir();
        let mut settings = Settings::new("test", name, dir.join("data"));
        settings.port = free_port();
        settings.listen_addresses = "127.0.0.1".into();
        settings.socket_dir = Some(dir.clone());
        settings.superuser = Credentials::new("postgres").with_password("super'\\ secret");
        settings.replication = Credentials::new("replicator").with_password("repl:\\secret");
        settings.rewind = Some(Credentials::new("rewinder").with_password("rewind-secret"));
        settings.initdb = vec![
            ToolOption { name: "encoding".into(), value: Some("UTF8".into()) },
            ToolOption { name: "data-checksums".into(), value: None },
        ];
        settings.parameters.insert("shared_buffers".into(), "16MB".into());
        settings.run_as = run_as();
        settings.bin_dir = std::env::var_os("HART_PG_BIN").map(Into::into);
        Self { postgres: Postgres::new(settings), dir, child: None }
    }

    pub async fn copy(&self, from: &Self, options: BaseBackup) -> Result<(), Error> {
        self.postgres.base_backup(&from.address(), &options, |_| {}).await
    }

    pub fn change(&self, edit: impl FnOnce(&mut Settings)) {
        let mut settings = (*self.postgres.settings()).clone();
        edit(&mut settings);
        self.postgres.update_settings(settings);
    }

    pub fn address(&self) -> Upstream {
        Upstream { host: "127.0.0.1".into(), port: self.postgres.settings().port }
    }

    pub fn data(&self) -> PathBuf {
        self.postgres.settings().data_dir.clone()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A new primary with its roles.
    pub async fn primary(name: &str) -> Self {
        let mut node = Self::new(name);
        node.postgres.initdb(LONG).await.unwrap();
        node.start(&Role::Primary).await;
        node.postgres.ensure_roles(LONG).await.unwrap();
        node
    }

    /// A replica of `primary`, streaming.
    pub async fn replica(name: &str, primary: &Self) -> Self {
        let mut node = Self::new(name);
        node.copy(primary, BaseBackup::default()).await.unwrap();
        node.start(&standby_of(primary)).await;
        node.streaming().await;
        node
    }

    /// Starts the server as the guard does, and waits until it answers.
    pub async fn start(&mut self, role: &Role) -> Probe {
        self.postgres.write_config(role, LONG).await.unwrap();
        self.spawn(role).await;
        self.until("it answers", |probe| Some(probe.clone())).await
    }

    pub async fn spawn(&mut self, role: &Role) {
        let launch = self.postgres.launch(role, LONG).await.unwrap();
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).current_dir("/").stdin(Stdio::null());
        command.env_clear().envs(launch.env);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(RunAs { uid, gid }) = run_as() {
            command.uid(uid).gid(gid);
        }
        self.child = Some(command.spawn().unwrap());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    /// Stops the postmaster and waits for it and for its children.
    pub async fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
        let postgres = &self.postgres;
        eventually("its processes are gone", || async {
            postgres.processes(LONG).await.unwrap().is_empty().then_some(())
        })
        .await;
    }

    pub async fn sql(&self, sql: &str) -> String {
        let rows = match self.postgres.query(sql, LONG).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error:?}\n{}", self.log()),
        };
        rows.first().and_then(|row| row[0].clone()).unwrap_or_default()
    }

    /// Probes until `check` gives something.
    pub async fn until<T>(&self, what: &str, check: impl Fn(&Probe) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        loop {
            let probe = self.postgres.probe(LONG).await;
            if let Some(found) = probe.as_ref().ok().and_then(&check) {
                return found;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "never came true: {what}; last: {probe:#?}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn streaming(&self) -> Probe {
        let streams = |p: &Probe| p.receiver.as_ref().is_some_and(|r| r.streaming());
        self.until("it streams", |probe| streams(probe).then(|| probe.clone())).await
    }

    /// Waits until the replica has what the primary has now.
    pub async fn caught_up_with(&self, primary: &Self) {
        let here = primary.postgres.probe(LONG).await.unwrap().position();
        self.until("it has caught up", |p| (p.replay_lsn >= Some(here)).then_some(())).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
            if matches!(child.try_wait(), Ok(None)) {
                let _ = kill(pid, Signal::SIGQUIT);
                let _ = child.wait();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Processes that are stopped, and go on when the test ends.
pub struct Stopped(Vec<Pid>);

impl Stopped {
    pub fn new(pids: impl IntoIterator<Item = i32>) -> Self {
        let pids: Vec<_> = pids.into_iter().map(Pid::from_raw).collect();
        for pid in &pids {
            // One of them may have ended meanwhile.
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        Self(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

pub fn standby_of(primary: &Node) -> Role {
    Role::Standby { upstream: Some(primary.address()), slot: None }
}

/// Waits until `check` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub fn sql_error(error: Error) -> LinkError {
    match error {
        Error::Sql { source, .. } => source,
        other => panic!("not an SQL error: {other:?}"),
    }
}
