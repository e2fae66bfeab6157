//! A place for one test: a directory, a guard, and the clean-up.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hart_guard::{Client, Spec, Started, cgroup, spawn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a test waits for what should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A tree that ignores every signal it can, in several sessions, one process an orphan from birth.
pub const STUBBORN: &str = "trap '' QUIT INT TERM HUP
    sleep 3600 & setsid sleep 3600 & (setsid sleep 3600 &)
    touch ready; while :; do sleep 3600; done";

/// A postmaster that stops when told to, and leaves a word of how.
pub const POLITE: &str = "trap 'touch got-int; exit 0' INT
    trap 'touch got-quit; exit 2' QUIT
    trap 'touch got-hup' HUP
    touch ready; while :; do sleep 3600 & wait $!; done";

pub struct Rig {
    pub dir: PathBuf,
    pub cgroup: Option<PathBuf>,
}

impl Rig {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hart-guard-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self { dir, cgroup: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A guard over `sh -c script`; every process works in the rig's directory, by which they are
    /// found again.
    pub fn spec(&self, script: &str) -> Spec {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Spec {
            program: env!("CARGO_BIN_EXE_hart-guard-test").into(),
            socket: self.path("socket"),
            lock: self.path("lock"),
            exit_file: self.path("exit"),
            log: self.path("log"),
            cgroup: self.cgroup.clone(),
            standby_signal: None,
            postgres: ["sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("PATH".into(), path)],
            cwd: self.dir.clone(),
            arm: None,
            grace: Duration::from_millis(100),
            watchdog: None,
        }
    }

    /// Starts it and waits until the script has made the file `ready`.
    pub async fn start(&self, spec: &Spec) -> (Started, Client) {
        let _ = fs::remove_file(self.path("ready"));
        let started = spawn(spec, PATIENCE).await.unwrap();
        self.appears("ready").await;
        (started, self.client().await)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.path("socket"), PATIENCE).await.unwrap()
    }

    pub async fn appears(&self, name: &str) {
        eventually(name, || self.path(name).exists()).await;
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The processes that work in the rig's directory, without the guard.
    pub fn processes(&self) -> Vec<i32> {
        self.all_processes().into_iter().filter(|pid| comm(*pid) != "hart-guard").collect()
    }

    fn all_processes(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let here = |pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.dir))
        };
        pids.filter(here).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log:\n{}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
        // Until none is left: a process may have been about to start another.
        for _ in 0..1000 {
            let left = self.all_processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
            pause();
        }
        if let Some(path) = &self.cgroup {
            for _ in 0..1000 {
                let base = path.parent().filter(|base| base.join("agent").exists());
                cgroup::remove(base.unwrap_or(path));
                let _ = fs::remove_dir(path);
                if !path.exists() {
                    break;
                }
                pause();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[allow(clippy::disallowed_methods)] // no runtime to wait in
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

pub fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The value of a line in `/proc/PID/status`.
pub fn proc_status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
}

pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

pub fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently(what, waiting).await;
}

pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}
