//! Where hart's own state is: beside the data directory, or in `state_dir`. Never inside: a base backup
//! would carry one node's identity to the next, and a copy made anew would wipe the terms that it has seen.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hart_config::Config;
use nix::unistd::{AccessFlags, access, geteuid};

use super::home::Home;

/// What is in it as soon as an agent has run.
const FACTS: &str = "facts.json";
/// What an earlier build called it, inside, where `data_dir` had a slash at its end.
const INSIDE: &str = ".hart";

/// Where PostgreSQL's output is kept.
pub fn log_file(config: &Config) -> PathBuf {
    find(config).join("postgresql.log")
}

/// The directory. State that is there already is never left behind: it says which terms were seen.
pub fn find(config: &Config) -> PathBuf {
    if let Some(given) = &config.state_dir {
        return given.clone();
    }
    let beside = beside(config);
    let Some(other) = other(config) else { return beside };
    if beside.join(FACTS).exists() || !other.join(FACTS).exists() && may_be_made(&beside) {
        beside
    } else {
        other
    }
}

fn beside(config: &Config) -> PathBuf {
    with_hart(config.postgresql.data_dir.as_os_str())
}

fn with_hart(path: &OsStr) -> PathBuf {
    let mut path = path.to_owned();
    path.push(INSIDE);
    path.into()
}

/// Where the data directory's parent is another user's (a mount point): the directory that the file gives
/// for the passfile, if it is this user's alone.
fn other(config: &Config) -> Option<PathBuf> {
    let dir = config.postgresql.pgpass.as_ref()?.parent()?;
    let found = fs::metadata(dir).ok()?;
    let ours = found.is_dir()
        && found.uid() == geteuid().as_raw()
        && found.permissions().mode() & 0o022 == 0
        && !dir.starts_with(&config.postgresql.data_dir);
    ours.then(|| dir.join(with_hart(config.postgresql.data_dir.file_name().unwrap_or_default())))
}

fn may_be_made(dir: &Path) -> bool {
    dir.is_dir() || nearest(dir).is_some_and(|parent| access(parent, AccessFlags::W_OK).is_ok())
}

/// The nearest directory above that exists.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|above| above.is_dir())
}

/// Is the place fit?
///
/// # Errors
/// It is inside the data directory, or the state is in another place still.
pub fn check(config: &Config) -> Result<(), String> {
    let (dir, data) = (find(config), &config.postgresql.data_dir);
    if is_inside(&dir, data) {
        return Err(format!(
            "hart's state in {} would be inside the data directory {}, where base backups copy it and \
             reinit removes it; set state_dir to another directory",
            dir.display(),
            data.display()
        ));
    }
    let mut former = [Some(beside(config)), other(config)].into_iter().flatten();
    let former = former.rfind(|former| *former != dir && former.join(FACTS).exists());
    match former {
        Some(former) if config.state_dir.is_some() && !dir.join(FACTS).exists() => Err(format!(
            "this node's state is in {}, and state_dir is {}; stop the agent and PostgreSQL, then move \
             the directory there (mv {0} {1})",
            former.display(),
            dir.display()
        )),
        _ => Ok(()),
    }
}

/// Symbolic links followed as far as the path exists.
fn is_inside(dir: &Path, data: &Path) -> bool {
    let Ok(data) = data.canonicalize() else { return dir.starts_with(data) };
    let real = match dir.canonicalize() {
        Ok(real) => real,
        Err(_) => {
            let above = nearest(dir).unwrap_or(Path::new("/"));
            let rest = dir.strip_prefix(above).unwrap_or(Path::new(""));
            above.canonicalize().unwrap_or_else(|_| above.to_owned()).join(rest)
        }
    };
    real.starts_with(data)
}

/// Takes the state that an earlier build has left inside the data directory out of it. A renamed
/// directory keeps its locks and its socket, so this may be done while its guard lives.
///
/// # Errors
/// Another agent works with it, or it cannot be moved.
pub fn take_out(config: &Config) -> Result<(), String> {
    let inside = config.postgresql.data_dir.join(INSIDE);
    if !inside.join("agent.lock").is_file() {
        return Ok(());
    }
    Home::check_free(&inside).map_err(|error| error.to_string())?;
    let mut target = find(config);
    if target.join(FACTS).exists() {
        // A copy that came from another node, by base backup or pg_rewind.
        target = unused(&target.join("found-inside"));
    } else if target.is_dir() {
        // Made by this start, as root; only an empty one goes.
        fs::remove_dir(&target).map_err(|error| failed(&inside, &target, &error))?;
    }
    fs::rename(&inside, &target).map_err(|error| failed(&inside, &target, &error))?;
    tracing::warn!(
        "hart's state was inside the data directory, in {}; it is in {} now",
        inside.display(),
        target.display()
    );
    Ok(())
}

fn failed(inside: &Path, target: &Path, error: &io::Error) -> String {
    format!(
        "an earlier build has left hart's state inside the data directory, and it cannot be moved: {error}; \
         stop PostgreSQL, then: mv {} {}",
        inside.display(),
        target.display()
    )
}

fn unused(path: &Path) -> PathBuf {
    let numbered = |n: u32| path.with_extension(n.to_string());
    (1..u32::MAX).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("hart-state-{:x}", fastrand::u64(..)));
            fs::create_dir_all(dir.join("run")).unwrap();
            fs::create_dir_all(dir.join("top/data")).unwrap();
            Self(dir.canonicalize().unwrap())
        }

        fn config(&self, more: &str) -> Config {
            let top = self.0.display();
            let text = format!(
                "scope: ha\nname: n1\nconsul: {{}}\nrestapi: {{listen: '127.0.0.1:1'}}\n{more}\n\
                 postgresql: {{listen: '127.0.0.1:2', data_dir: {top}/top/data/, pgpass: {top}/run/p}}"
            );
            hart_config::load_text("t.yml", &text, []).unwrap().config
        }

        fn with_facts(&self, dir: &str) -> PathBuf {
            let dir = self.0.join(dir);
            drop(Home::open(&dir).unwrap());
            dir
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_beside_the_data_directory_and_stays_where_it_is() {
        let place = Place::new();
        let config = place.config("");
        assert_eq!(find(&config), place.0.join("top/data.hart"));
        let other = place.with_facts("run/data.hart");
        assert_eq!(find(&config), other, "an earlier start could not write beside");
        let beside = place.with_facts("top/data.hart");
        assert_eq!(find(&config), beside);
        let given = place.config(&format!("state_dir: {}/mine/", place.0.display()));
        assert_eq!(find(&given), place.0.join("mine"));
        let refused = check(&given).unwrap_err();
        assert!(refused.contains("mv ") && refused.contains("/run/data.hart"), "{refused}");
        place.with_facts("mine");
        assert_eq!(check(&given), Ok(()));
    }

    #[test]
    fn a_directory_that_others_may_write_is_no_place() {
        let place = Place::new();
        fs::set_permissions(place.0.join("run"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(other(&place.config("")), None);
    }

    #[test]
    fn it_is_never_inside() {
        let place = Place::new();
        let top = place.0.display();
        std::os::unix::fs::symlink(place.0.join("top"), place.0.join("link")).unwrap();
        for inside in ["top/data/hart", "top/data", "link/data/x/y"] {
            let refused = check(&place.config(&format!("state_dir: {top}/{inside}"))).unwrap_err();
            assert!(refused.contains("inside"), "{inside}: {refused}");
        }
        for outside in ["top/data.hart", "top/data2", "link/x"] {
            assert_eq!(check(&place.config(&format!("state_dir: {top}/{outside}"))), Ok(()));
        }
    }

    #[test]
    fn what_an_earlier_build_left_inside_is_taken_out() {
        let place = Place::new();
        let config = place.config("");
        let inside = place.0.join("top/data/.hart");
        let instance = {
            let mut home = Home::open(&inside).unwrap();
            home.remember_term(7).unwrap();
            assert!(take_out(&config).unwrap_err().contains("another hart agent"));
            home.instance().to_owned()
        };
        take_out(&config).unwrap();
        assert!(!inside.exists());
        let home = Home::open(&find(&config)).unwrap();
        assert_eq!((home.instance(), home.memory("ha").term), (&*instance, 7), "not a copy");
        drop(home);
        // A base backup from a node of the earlier build.
        place.with_facts("top/data/.hart");
        take_out(&config).unwrap();
        assert!(!inside.exists());
        assert_eq!(Home::open(&find(&config)).unwrap().instance(), instance);
    }
}
