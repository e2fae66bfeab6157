//! A value that PostgreSQL takes and cannot start with (more memory than there is, a library that is not installed,
//! a rule in `pg_hba.conf` that is none) shows at the next restart only, on each member one after the other. Where a
//! start fails, the next one is made with what the server came up with last, and that is said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hart_postgres::Settings;
use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::home::kept;
use super::monitor::Answer;
use super::server::Life;

/// A start that said nothing may have failed for any reason; after so many the settings are suspected, too.
const SILENT: u32 = 2;

/// What a server was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Given {
    parameters: BTreeMap<String, String>,
    pg_hba: Vec<String>,
}

impl Given {
    fn of(settings: &Settings) -> Self {
        Self { parameters: settings.parameters.clone(), pg_hba: settings.pg_hba.clone() }
    }
}

/// What is taken back, as long as the same is wanted.
#[derive(Clone, Debug, PartialEq)]
struct Back {
    wanted: Given,
    /// What PostgreSQL said.
    words: String,
    rules: bool,
    /// Names that differ from what it came up with.
    names: Vec<String>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Proven {
    path: PathBuf,
    /// With what the server came up last.
    good: Option<Given>,
    /// With what a start is under way, and how many were made before it.
    proving: Option<(Given, u64)>,
    /// So many starts in a row have failed without a word.
    silent: u32,
    /// The settings as they are wanted, before anything is taken back.
    wanted: Option<Settings>,
    back: Option<Back>,
}

impl Proven {
    /// As it was kept by an earlier run.
    pub fn read(path: PathBuf) -> Self {
        let good = kept::read(&path);
        Self { path, good, proving: None, silent: 0, wanted: None, back: None }
    }

    /// The settings to go on with, of those that are wanted.
    pub fn pass(&mut self, wanted: Settings) -> Settings {
        if self.back.as_ref().is_some_and(|back| back.wanted != Given::of(&wanted)) {
            self.back = None;
        }
        self.wanted = Some(wanted.clone());
        self.replaced(wanted)
    }

    /// A person has read what is wrong, and wants it tried again.
    pub fn try_again(&mut self) {
        self.back = None;
        self.silent = 0;
    }

    fn replaced(&self, mut settings: Settings) -> Settings {
        let (Some(back), Some(good)) = (&self.back, &self.good) else { return settings };
        if back.rules {
            settings.pg_hba.clone_from(&good.pg_hba);
        } else {
            settings.parameters.clone_from(&good.parameters);
        }
        settings
    }

    /// A start is about to be made; with what.
    fn begins(&mut self, settings: &Settings, starts: u64) -> Settings {
        let settings = self.wanted.clone().map_or_else(|| settings.clone(), |it| self.replaced(it));
        self.proving = Some((Given::of(&settings), starts));
        settings
    }

    /// The start has not been made, or was broken off: it proves nothing.
    fn forget(&mut self) {
        self.proving = None;
    }

    /// The server has come up. True: that is news.
    fn came_up(&mut self) -> bool {
        let Some((given, _)) = self.proving.take() else { return false };
        self.silent = 0;
        let news = self.good.as_ref() != Some(&given);
        self.good = Some(given);
        news
    }

    /// The server has not come up, and said this. What to go on with, where that is something else now.
    fn failed(&mut self, words: Option<&str>) -> Option<Settings> {
        let (given, _) = self.proving.take()?;
        let good = self.good.as_ref()?;
        self.silent = if words.is_some() { 0 } else { self.silent + 1 };
        if words.is_none() && self.silent < SILENT {
            return None;
        }
        let rules =
            words.is_some_and(|words| words.contains("could not load") && words.contains("hba"));
        let names = if rules { Vec::new() } else { differing(&given.parameters, &good.parameters) };
        if !(rules && given.pg_hba != good.pg_hba) && names.is_empty() {
            return None;
        }
        let wanted = self.wanted.clone()?;
        let words = words.unwrap_or("it said nothing").to_owned();
        self.back = Some(Back { wanted: Given::of(&wanted), words, rules, names });
        Some(self.replaced(wanted))
    }

    /// In a sentence, where something is taken back.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Back { words, rules, names, .. } = self.back.as_ref()?;
        let what = if *rules { "postgresql.pg_hba".to_owned() } else { names.join(", ") };
        Some(format!(
            "PostgreSQL did not start with the new {what} ({words}): it goes on with what it came up with \
             last; mend it in the shared settings or in this node's file, or hart reload to have it tried \
             again at the next restart"
        ))
    }
}

fn differing(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

impl Agent {
    /// A start is about to be made.
    pub(super) fn note_start(&mut self) {
        let settings = self.proven.begins(&self.postgres.settings(), self.server.starts());
        self.postgres.update_settings(settings);
    }

    /// What the start that was made last has come to.
    pub(super) fn settle_start(&mut self, answer: &Answer) {
        let Some(&(_, before)) = self.proven.proving.as_ref() else { return };
        let up = matches!(self.known.life, Life::Up { .. });
        if up && answer.probe.is_some() && self.proven.came_up() {
            kept::write(self.proven.path.clone(), &self.proven.good);
        }
        if up || self.jobs.running().is_some() {
            return;
        }
        if self.server.starts() == before || self.server.was_asked_to_end() {
            return self.proven.forget();
        }
        let words = self.server.last_words().map(|words| words.text);
        if let Some(settings) = self.proven.failed(words.as_deref()) {
            self.postgres.update_settings(settings);
            if let Some(problem) = self.proven.problem() {
                tracing::error!("{problem}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parameters: &[(&str, &str)], rules: &[&str]) -> Settings {
        let mut settings = Settings::new("demo", "n1", "/nowhere");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        settings.parameters = parameters.iter().map(own).collect();
        settings.pg_hba = rules.iter().map(|rule| (*rule).to_owned()).collect();
        settings
    }

    fn proven(with: &Settings) -> Proven {
        let mut proven = Proven::read("/nonexistent/proven.json".into());
        proven.pass(with.clone());
        proven.begins(with, 0);
        assert!(proven.came_up());
        proven
    }

    const MEMORY: &str = "FATAL: could not map anonymous shared memory: Cannot allocate memory";

    #[test]
    fn what_the_server_does_not_start_with_is_taken_back_until_something_else_is_wanted() {
        let good =
            settings(&[("shared_buffers", "1GB"), ("work_mem", "4MB")], &["local all all peer"]);
        let mut proven = proven(&good);
        let bad =
            settings(&[("shared_buffers", "7TB"), ("work_mem", "4MB")], &["local all all md5"]);
        assert_eq!(proven.pass(bad.clone()).parameters, bad.parameters);
        proven.begins(&bad, 1);
        let back = proven.failed(Some(MEMORY)).unwrap();
        assert_eq!((&back.parameters, &back.pg_hba), (&good.parameters, &bad.pg_hba));
        let problem = proven.problem().unwrap();
        assert!(problem.contains("new shared_buffers (FATAL: could not map"), "{problem}");
        assert_eq!(
            proven.pass(bad.clone()).parameters,
            good.parameters,
            "the same is wanted still"
        );
        let other = settings(&[("shared_buffers", "2GB")], &[]);
        assert_eq!(proven.pass(other.clone()).parameters, other.parameters);
        assert_eq!(proven.problem(), None);
    }

    #[test]
    fn rules_are_taken_back_where_they_are_what_is_wrong() {
        let good = settings(&[("work_mem", "4MB")], &["local all all peer"]);
        let mut proven = proven(&good);
        let bad = settings(&[("work_mem", "8MB")], &["locl all all peer"]);
        proven.pass(bad.clone());
        proven.begins(&bad, 1);
        let back = proven.failed(Some("FATAL: could not load pg_hba.conf")).unwrap();
        assert_eq!((&back.parameters, &back.pg_hba), (&bad.parameters, &good.pg_hba));
        assert!(proven.problem().unwrap().contains("new postgresql.pg_hba"));
    }

    #[test]
    fn a_failure_with_the_same_settings_or_without_a_word_is_not_put_down_to_them() {
        let good = settings(&[("work_mem", "4MB")], &[]);
        let mut proven = proven(&good);
        proven.begins(&good, 1);
        assert!(proven.failed(Some(MEMORY)).is_none(), "it came up with the same");
        assert!(proven.failed(Some(MEMORY)).is_none(), "no start was made");
        let new = settings(&[("work_mem", "8MB")], &[]);
        proven.pass(new.clone());
        proven.begins(&new, 1);
        assert!(proven.failed(None).is_none());
        proven.begins(&new, 1);
        assert!(proven.failed(None).is_some());
        proven.try_again();
        assert_eq!(proven.pass(new.clone()).parameters, new.parameters);
    }
}
