//! What a rolling restart is for, and by which rules.

use std::collections::BTreeMap;

use super::plan::Picture;
use crate::cli::version::dotted;

/// Who has to be dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Whose parameters wait for a restart.
    Pending,
    /// Whose PostgreSQL is older than this (`server_version_num`).
    Below(u32),
    /// Everybody: when PostgreSQL was started there before, by member.
    All(BTreeMap<String, String>),
    /// Whose agent runs another binary than is installed.
    Agents,
}

impl Work {
    /// As the options say it.
    pub fn options(&self) -> String {
        match self {
            Self::Pending => String::new(),
            Self::Below(version) => format!("--pg-version {}", dotted(*version)),
            Self::All(_) => "--all".to_owned(),
            Self::Agents => "--agents".to_owned(),
        }
    }

    /// What it is, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Pending => "a restart of all whose parameters wait for one".to_owned(),
            Self::Below(version) => {
                format!("a restart of all whose PostgreSQL is older than {}", dotted(*version))
            }
            Self::All(_) => "a restart of all".to_owned(),
            Self::Agents => "a replacement of all agents that are not what is installed".to_owned(),
        }
    }

    /// What is to be done with one that is left.
    pub fn undone(&self) -> &'static str {
        match self {
            Self::Agents => "replace the agent",
            _ => "restart PostgreSQL",
        }
    }
}

/// What it keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who has to be dealt with.
    pub work: Work,
    /// So many members go on at each moment; without it all but one.
    pub keep: Option<usize>,
    /// The primary is restarted where it is.
    pub in_place: bool,
    /// The members may have different versions of PostgreSQL.
    pub mixed: bool,
}

impl Rules {
    /// The options of one that goes on: those of this one, and the one without which it cannot.
    pub fn to_go_on(&self, remedy: &str) -> String {
        let mut options = vec![self.work.options()];
        options.extend(self.keep.map(|keep| format!("--keep {keep}")));
        let in_place = self.in_place || remedy.starts_with("give --in-place");
        options.extend(in_place.then(|| "--in-place".to_owned()));
        options.extend(self.mixed.then(|| "--mixed".to_owned()));
        options.retain(|option| !option.is_empty());
        options.join(" ")
    }

    /// So many members must be well while one is dealt with.
    pub fn keep(&self, picture: &Picture) -> usize {
        self.keep.unwrap_or_else(|| picture.members.len().saturating_sub(1))
    }
}
