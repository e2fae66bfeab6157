//! Where the configuration comes from: a file, a directory, or the environment.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::config::{Config, missing_problem};
use crate::env::Environment;
use crate::error::{Error, Place, Problem, Problems};
use crate::keys::Kind;
use crate::reader::Findings;
use crate::tree::{Node, Tree};
use crate::warning::Warning;
use crate::{unknown, yaml};

/// The longest file that is read (bytes).
const MOST_BYTES: u64 = 1 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What in it is ignored or worth knowing, in the order of the files.
    pub warnings: Vec<Warning>,
}

/// Reads a file, or a directory whose `*.yml` and `*.yaml` are merged in the order of their names
/// (later ones win, maps are merged). `env` are variables with their values, such as
/// [`crate::process_env`] gives; others than `HART_*` and `PATRONI_*` are passed over.
///
/// # Errors
/// See [`Error`]; all wrong and missing values are reported at once.
pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Error> {
    let mut root = Node::empty_map(&shown(path));
    for file in files(path)? {
        let name = shown(&file);
        let node = yaml::parse(&name, &read_text(&file)?)?;
        root.overlay(map_at_top(node)?);
    }
    assemble(&shown(path), root, &Environment::new(env))
}

/// Reads `text` as if it stood in a file called `name`.
///
/// # Errors
/// See [`load`].
pub fn load_text(
    name: &str,
    text: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let name = Arc::from(name);
    let root = map_at_top(yaml::parse(&name, text)?)?;
    assemble(&name, root, &Environment::new(env))
}

/// Reads the environment alone: `HART_CONFIGURATION` or `PATRONI_CONFIGURATION` holds the YAML,
/// and the single variables are laid over it.
///
/// # Errors
/// See [`load`].
pub fn load_from_env(env: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Error> {
    let env = Environment::new(env);
    let (name, text) = env.get("CONFIGURATION").unwrap_or(("the environment".into(), ""));
    let name = Arc::from(name);
    let root = map_at_top(yaml::parse(&name, text)?)?;
    assemble(&name, root, &env)
}

/// A value of YAML 1.1, as Patroni stores it; nothing at all is `null`.
///
/// # Errors
/// [`Error::Malformed`], with the line and column of `text`, which is called `name`.
pub fn yaml_value(name: &str, text: &str) -> Result<Value, Error> {
    Ok(yaml::parse(&Arc::from(name), text)?.to_json())
}

fn assemble(name: &Arc<str>, mut root: Node, env: &Environment) -> Result<Loaded, Error> {
    env.lay_over(&mut root)?;
    let findings = RefCell::new(Findings::default());
    let config = Config::read(&root, &findings);
    let Findings { mut problems, missing, mut warnings, .. } = findings.into_inner();
    warnings.extend(unknown::warnings(&root, env));
    // Stable: warnings about one line stay in the order in which they were given.
    warnings.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
    if problems.is_empty() && missing.is_empty() {
        return Ok(Loaded { config, warnings });
    }
    problems.sort();
    problems.dedup();
    problems.extend(missing_problem(name, &missing));
    Err(Error::Invalid(Problems { problems, warnings }))
}

/// An empty file counts as an empty map.
fn map_at_top(node: Node) -> Result<Node, Error> {
    if node.is_null() {
        return Ok(Node::empty_map(&node.place.file));
    }
    if matches!(node.tree, Tree::Map(_)) {
        return Ok(node);
    }
    let what = format!("expected {}, found {}", Kind::Section, node.found_kind());
    let hint = "begin with lines such as \"scope: ha\"".to_owned();
    Err(Error::one(Problem { place: node.place, field: String::new(), what, hint }))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: io::Error| unreadable(path, &error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let yaml = file.extension().is_some_and(|end| end == "yml" || end == "yaml");
        if yaml && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let hint = "name a file, or put the configuration into this directory as *.yml";
        let reason = "the directory has no *.yml in it".to_owned();
        return Err(Error::Unreadable { path: path.display().to_string(), reason, hint });
    }
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |error: io::Error| unreadable(path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        let hint = "check the path; this is no configuration file";
        let reason = "it is longer than 1 MiB".to_owned();
        return Err(Error::Unreadable { path: path.display().to_string(), reason, hint });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let place = Place { file: shown(path), line: number(line), column: number(column) };
        let reason = "a byte here is not UTF-8 text".to_owned();
        Error::Malformed { place, reason, hint: "save the file as UTF-8" }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "let the user that runs hart read it",
        _ => "see that it is a regular file or a directory",
    };
    Error::Unreadable { path: path.display().to_string(), reason: error.to_string(), hint }
}

fn shown(path: &Path) -> Arc<str> {
    Arc::from(path.display().to_string())
}
