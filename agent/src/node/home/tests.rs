use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use super::*;

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("hart-home-{:x}", fastrand::u64(..)))
}

#[test]
fn facts_outlive_the_agent_and_terms_never_fall() {
    let dir = scratch();
    let instance = {
        let mut home = Home::open(&dir).unwrap();
        home.remember_term(7).unwrap();
        home.remember_term(3).unwrap();
        home.set_session(Some("s")).unwrap();
        home.instance().to_owned()
    };
    let home = Home::open(&dir).unwrap();
    assert_eq!((home.memory("demo").term, home.session()), (7, Some("s")));
    assert_eq!(home.instance(), instance);
    fs::remove_dir_all(&dir).unwrap();
}

/// A file that is a pipe takes a write when somebody reads it: a disk as slow as one wishes.
#[tokio::test]
async fn a_slow_disk_holds_nobody_up_and_what_it_has_not_taken_is_not_known() {
    let dir = scratch();
    let mut home = Home::open(&dir).unwrap();
    let wake = Arc::new(Notify::new());
    home.write_beside(wake.clone()).unwrap();
    let slow = dir.join("facts.json.new");
    nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
    home.remember_term(7).unwrap();
    home.remember_term(8).unwrap();
    assert!(home.take_written().is_empty());
    assert_eq!(home.memory("demo").term, 0, "it is not on the disk");
    // Now it takes writes, and cannot be synced: an error of the disk as good as any.
    let unblock = File::options().read(true).write(true).open(&slow).unwrap();
    let mut failed = Vec::new();
    while home.wanted != home.facts {
        wake.notified().await;
        failed.extend(home.take_written());
    }
    assert!(!failed.is_empty() && failed.iter().all(|failed| failed.vital), "{failed:?}");
    assert_eq!(home.memory("demo").term, 0);
    fs::remove_file(&slow).unwrap();
    drop(unblock);
    home.remember_term(8).unwrap();
    while home.memory("demo").term < 8 {
        wake.notified().await;
        home.take_written();
    }
    drop(home);
    assert_eq!(Home::open(&dir).unwrap().memory("demo").term, 8);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_failsafe_list_is_of_one_cluster() {
    let dir = scratch();
    let list = BTreeMap::from([("n1".to_owned(), "http://n1:8008/patroni".to_owned())]);
    Home::open(&dir).unwrap().set_failsafe("demo", list.clone()).unwrap();
    let home = Home::open(&dir).unwrap();
    assert_eq!(home.memory("demo").failsafe, list);
    assert!(home.memory("copy").failsafe.is_empty());
    fs::remove_dir_all(&dir).unwrap();
}

/// As on a machine that was cloned: the same name, the same facts, and the original may lead.
#[test]
fn a_copy_has_an_identity_of_its_own_and_no_session() {
    let (dir, copy) = (scratch(), scratch());
    let instance = {
        let mut home = Home::open(&dir).unwrap();
        home.remember_term(7).unwrap();
        home.set_session(Some("s")).unwrap();
        home.instance().to_owned()
    };
    fs::create_dir(&copy).unwrap();
    for name in ["facts.json", "agent.lock"] {
        fs::copy(dir.join(name), copy.join(name)).unwrap();
    }
    let other = Home::open(&copy).unwrap();
    assert_ne!(other.instance(), instance);
    assert_eq!((other.memory("demo").term, other.session()), (7, None));
    let drawn = other.instance().to_owned();
    drop(other);
    assert_eq!(Home::open(&copy).unwrap().instance(), drawn, "drawn once");
    assert_eq!(Home::open(&dir).unwrap().instance(), instance, "the original keeps its own");
    fs::remove_dir_all(&dir).unwrap();
    fs::remove_dir_all(&copy).unwrap();
}

#[test]
fn a_second_agent_is_refused() {
    let dir = scratch();
    assert!(Home::check_free(&dir).is_ok() && !dir.exists());
    let _first = Home::open(&dir).unwrap();
    assert!(matches!(Home::check_free(&dir), Err(HomeError::Locked(_))));
    assert!(matches!(Home::open(&dir), Err(HomeError::Locked(_))));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn spoilt_facts_are_an_error_and_stay_as_they_are() {
    let dir = scratch();
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("facts.json"), "{").unwrap();
    let error = Home::open(&dir).unwrap_err();
    assert!(error.to_string().starts_with("cannot understand"), "{error}");
    assert_eq!(fs::read(dir.join("facts.json")).unwrap(), b"{");
    fs::remove_dir_all(&dir).unwrap();
}
