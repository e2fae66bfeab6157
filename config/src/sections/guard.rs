//! `guard`: the process between agent and PostgreSQL.

use std::path::PathBuf;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;

/// The cgroup in which PostgreSQL runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cgroup {
    /// One below the agent's own, where cgroup v2 is there and may be written.
    #[default]
    Auto,
    /// None: every child is killed one by one.
    Off,
    /// This one, relative to the root of cgroup v2 or absolute.
    Path(PathBuf),
}

/// The guard's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The cgroup in which PostgreSQL runs.
    pub cgroup: Cgroup,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("guard", Kind::Section, "The process between agent and PostgreSQL."),
    key("guard.cgroup", Kind::Path, "auto, off, or the path of a cgroup v2 for PostgreSQL.")
        .default("auto")
        .env("GUARD_CGROUP"),
];

impl Guard {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("guard");
        let cgroup = section.text("cgroup").unwrap_or_default();
        Self {
            cgroup: match cgroup.to_ascii_lowercase().as_str() {
                "auto" | "" | "true" | "on" => Cgroup::Auto,
                "off" | "false" | "no" => Cgroup::Off,
                _ => Cgroup::Path(PathBuf::from(cgroup)),
            },
        }
    }
}
