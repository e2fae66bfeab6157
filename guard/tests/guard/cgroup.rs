//! With a cgroup. Only root may make one where no service manager has delegated any; elsewhere
//! these tests have nothing to test and say so.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hart_guard::{Exit, SpawnError, cgroup, privilege, read_exit, spawn};
use nix::sys::signal::Signal as Number;

use crate::rig::{PATIENCE, POLITE, Rig, STUBBORN, eventually, patiently, proc_status, send};

/// The mount point of cgroup v2, where this test may use it.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields[2] == "cgroup2").map(|fields| fields[1].into());
    let usable = mount.filter(|_| privilege::is_root());
    if usable.is_none() {
        eprintln!("not tested: root and cgroup v2 are needed");
    }
    usable
}

fn rig_with_cgroup() -> Option<(Rig, PathBuf)> {
    let mut rig = Rig::new();
    let name = rig.dir.file_name().unwrap().to_owned();
    let path = mount()?.join(name);
    fs::create_dir(&path).unwrap();
    rig.cgroup = Some(path.clone());
    Some((rig, path))
}

fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// CAP_SYS_RESOURCE (capabilities(7)) of this process.
fn may_raise_limits() -> bool {
    let effective = proc_status(std::process::id().try_into().unwrap(), "CapEff");
    u64::from_str_radix(&effective, 16).unwrap() & (1 << 24) != 0
}

#[tokio::test]
async fn the_kernel_kills_the_cgroup() {
    let Some((rig, path)) = rig_with_cgroup() else { return };
    let (started, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let status = client.status(PATIENCE).await.unwrap();
    assert!(status.layers.cgroup);
    assert_eq!(status.layers.cgroup_kill, path.join("cgroup.kill").exists());
    let name = format!("/{}", path.file_name().unwrap().display());
    for pid in rig.processes() {
        assert!(cgroup_of(pid).ends_with(&name), "{}", cgroup_of(pid));
    }
    assert!(!cgroup_of(started.guard_pid).ends_with(&name));
    assert!(cgroup::populated(&path).unwrap());
    client.arm(1, hart_clock::now() + Duration::from_millis(200), PATIENCE).await.unwrap();
    let record = patiently("the fence", client.exited()).await.unwrap();
    assert!(!cgroup::populated(&path).unwrap());
    assert_eq!((record.fenced, record.exit), (true, Exit::Signal(9)));
    assert_eq!(rig.processes(), Vec::<i32>::new());
}

/// Processes of the cgroup that do not descend from the guard count too.
#[tokio::test]
async fn the_end_waits_for_strangers_in_the_cgroup() {
    let Some((rig, path)) = rig_with_cgroup() else { return };
    let (started, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let mut stranger = tokio::process::Command::new("sleep")
        .arg("3600")
        .kill_on_drop(true)
        .current_dir(&rig.dir)
        .spawn()
        .unwrap();
    fs::write(path.join("cgroup.procs"), stranger.id().unwrap().to_string()).unwrap();
    send(started.postmaster_pid, Number::SIGKILL);
    patiently("the end", client.exited()).await.unwrap();
    assert!(!cgroup::populated(&path).unwrap());
    assert!(!patiently("its end", stranger.wait()).await.unwrap().success());
}

#[tokio::test]
async fn survivors_of_a_dead_guard_are_refused_and_can_be_killed() {
    let Some((rig, path)) = rig_with_cgroup() else { return };
    let (started, _client) = rig.start(&rig.spec(STUBBORN)).await;
    rig.processes().into_iter().for_each(|pid| send(pid, Number::SIGSTOP));
    send(started.guard_pid, Number::SIGKILL);
    eventually("the guard's end", || !hart_guard::guard_lives(&rig.path("lock")).unwrap()).await;
    let error = spawn(&rig.spec(POLITE), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Failed(text) if text.contains("earlier run")), "{error}");
    cgroup::kill_and_wait(&path, hart_clock::now() + PATIENCE).await.unwrap();
    assert!(!cgroup::populated(&path).unwrap());
    eventually("their end", || rig.processes().is_empty()).await;
    let (_, mut client) = rig.start(&rig.spec(POLITE)).await;
    assert!(client.status(PATIENCE).await.unwrap().layers.cgroup);
}

#[tokio::test]
async fn kill_and_wait_keeps_its_deadline() {
    let Some((rig, path)) = rig_with_cgroup() else { return };
    let (_, _client) = rig.start(&rig.spec(STUBBORN)).await;
    let result = cgroup::kill_and_wait(&path, hart_clock::now()).await;
    assert!(matches!(result, Err(cgroup::CgroupError::Left { .. })), "{result:?}");
}

#[tokio::test]
async fn a_cgroup_that_cannot_be_used_costs_a_layer_only() {
    let mut rig = Rig::new();
    rig.cgroup = Some(rig.path("no-cgroup"));
    let (_, mut client) = rig.start(&rig.spec(STUBBORN)).await;
    let layers = client.status(PATIENCE).await.unwrap().layers;
    assert!(!layers.cgroup && !layers.cgroup_kill && layers.subreaper);
    assert!(rig.log().contains("no cgroup"), "{}", rig.log());
    client.fence(PATIENCE).await.unwrap();
    patiently("the fence", client.exited()).await.unwrap();
    assert_eq!(rig.processes(), Vec::<i32>::new());
}

/// The whole way from root: cgroups made and given away, privileges dropped, guard started.
#[tokio::test]
async fn an_unprivileged_guard_has_every_layer_that_root_left_it() {
    let Some(mount) = mount() else { return };
    let Ok(account) = privilege::lookup("postgres") else {
        return eprintln!("not tested: there is no user postgres");
    };
    let mut rig = Rig::new();
    std::os::unix::fs::chown(&rig.dir, Some(account.uid), Some(account.gid)).unwrap();
    let name = rig.dir.file_name().unwrap().to_str().unwrap().to_owned();
    let mut spec = rig.spec(STUBBORN);
    spec.env.push(("HART_GUARD_TEST_USER".into(), "postgres".into()));
    spec.env.push(("HART_GUARD_TEST_SCOPE".into(), (&name).into()));
    // Under the cgroup of the test's own process, which is the root here but need not be.
    let own = cgroup_of(std::process::id().try_into().unwrap());
    let base = mount.join(own.trim_start_matches('/')).join(format!("hart-{name}"));
    rig.cgroup = Some(base.join("postgres"));

    let (started, mut client) = rig.start(&spec).await;
    let layers = client.status(PATIENCE).await.unwrap().layers;
    assert!(layers.cgroup && layers.subreaper && layers.pdeathsig, "{layers:?}");
    // A container's root may lack what it takes to hand these on.
    if may_raise_limits() {
        assert!(layers.memory_locked && layers.oom_protected, "{layers:?} {}", rig.log());
    }
    assert_ne!(layers.oom_protected, rig.log().contains("no protection from the OOM killer"));
    for pid in [started.guard_pid, started.postmaster_pid] {
        let uids = proc_status(pid, "Uid");
        assert!(uids.split_whitespace().all(|uid| uid == account.uid.to_string()), "{uids}");
    }
    assert!(cgroup_of(started.guard_pid).ends_with("/agent"));
    assert!(cgroup_of(started.postmaster_pid).ends_with("/postgres"));
    let oom = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(oom(started.guard_pid).trim() == "-1000", layers.oom_protected);
    assert_eq!(proc_status(started.guard_pid, "VmLck") != "0 kB", layers.memory_locked);
    let own_oom = oom(std::process::id().try_into().unwrap());
    assert_eq!(oom(started.postmaster_pid), own_oom, "PostgreSQL is not spared");
    assert_eq!(proc_status(started.postmaster_pid, "VmLck"), "0 kB");

    client.fence(PATIENCE).await.unwrap();
    let record = patiently("the fence", client.exited()).await.unwrap();
    assert_eq!(read_exit(&rig.path("exit")).unwrap(), Some(record));
    assert!(!cgroup::populated(&base.join("postgres")).unwrap());
    assert_eq!(rig.processes(), Vec::<i32>::new());
    eventually("the cgroups' removal", || {
        cgroup::remove(&base);
        !base.exists()
    })
    .await;
}
