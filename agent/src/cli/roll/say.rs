//! Progress and plans, in words. A terminal that has gone is no reason to break anything off: the signal for
//! that is another matter.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::{Next, Picture, Seen, needs};
use super::wish::{Rules, Work};
use crate::cli::version::dotted;

const TICK: Duration = Duration::from_millis(120);

/// Tells people.
pub struct Teller {
    scope: String,
    bar: ProgressBar,
    said: String,
}

impl Teller {
    pub fn new(scope: &str) -> Self {
        let bar = ProgressBar::hidden();
        Self { scope: scope.to_owned(), bar, said: String::new() }
    }

    /// What there is to do, before the question.
    pub fn tell_plan(&self, picture: &Picture, rules: &Rules, steps: &[Next]) {
        let mut text = format!("Cluster {}: {}\n", self.scope, rules.work.title());
        for (at, step) in steps.iter().enumerate() {
            text.push_str(&match sentence(picture, &rules.work, step) {
                Some(sentence) => format!("  {}. {sentence}\n", at + 1),
                None if at == 0 => "  nothing is to be done\n".to_owned(),
                None => String::new(),
            });
        }
        let _ = write!(std::io::stdout(), "{text}");
    }

    /// Something that people should know before.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "hart: {text}");
    }

    /// A step begins.
    pub fn begin(&mut self, what: &str) {
        self.said.clear();
        self.show(what);
    }

    /// What is waited for: at a terminal for as long as it lasts, elsewhere once.
    pub fn wait(&mut self, why: &str) {
        self.show(&format!("waiting: {why}"));
    }

    fn show(&mut self, what: &str) {
        if self.said == what {
            return;
        }
        what.clone_into(&mut self.said);
        if !std::io::stderr().is_terminal() {
            let _ = writeln!(std::io::stderr(), "{what}");
            return;
        }
        if self.bar.is_finished() || self.bar.is_hidden() {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            self.bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            self.bar.enable_steady_tick(TICK);
        }
        self.bar.set_message(what.to_owned());
    }

    /// What was done.
    pub fn line(&mut self, text: &str) {
        self.quiet();
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Takes the progress away.
    pub fn quiet(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What this run is about to do; `None`: nothing.
pub fn doing(step: &Next) -> Option<String> {
    match step {
        Next::Restart(name) | Next::RestartLeader(name) => {
            Some(format!("restarting PostgreSQL of {name}"))
        }
        Next::Switchover { from, to } => Some(format!("switching over from {from} to {to}")),
        Next::Upgrade(name) => Some(format!("replacing the agent of {name}")),
        Next::Done | Next::Wait { .. } | Next::Stop { .. } => None,
    }
}

fn sentence(picture: &Picture, work: &Work, step: &Next) -> Option<String> {
    let of = |name: &str| {
        let seen = picture.members.iter().find(|seen| seen.name == name);
        seen.map(|seen| reason(seen, work)).filter(|why| !why.is_empty())
    };
    let with = |text: String, name: &str| match of(name) {
        Some(why) => format!("{text} ({why})"),
        None => text,
    };
    match step {
        Next::Restart(name) => Some(with(format!("restart PostgreSQL of {name}"), name)),
        Next::RestartLeader(name) => {
            let text = format!("restart PostgreSQL of {name}, the primary, where it is");
            Some(with(text, name))
        }
        Next::Switchover { from, to } => {
            let text = format!("switch over to {to}; {from} becomes a replica and is started anew");
            Some(with(text, from))
        }
        Next::Upgrade(name) => Some(with(format!("replace the agent of {name}"), name)),
        Next::Wait { why, .. } => Some(format!("wait, since {why}")),
        Next::Stop { why, .. } => Some(format!("stop: {why}")),
        Next::Done => None,
    }
}

fn reason(seen: &Seen, work: &Work) -> String {
    let from_to = || match (seen.version, seen.installed) {
        (Some(from), Some(to)) if from != to => format!("{} → {}", dotted(from), dotted(to)),
        _ => String::new(),
    };
    match work {
        Work::Pending => {
            let named = seen.pending.values().cloned();
            let versions = Some(from_to()).filter(|text| !text.is_empty());
            let versions = versions.map(|text| format!("PostgreSQL {text}"));
            named.chain(versions).collect::<Vec<_>>().join(", ")
        }
        Work::Below(_) | Work::All(_) => from_to(),
        Work::Agents => {
            let new = seen.agent_installed.as_deref().unwrap_or("?");
            if new == seen.agent {
                "another build".to_owned()
            } else {
                format!("{} → {new}", seen.agent)
            }
        }
    }
}

/// What waits for the primary's restart waits all the same.
fn is_pending(seen: &Seen, work: &Work) -> bool {
    *work == Work::Pending && !seen.pending.is_empty()
}

/// Who is done, who is not, and who is away.
pub fn standing(picture: &Picture, work: &Work) -> String {
    let (mut done, mut left, mut away) = (Vec::new(), Vec::new(), Vec::new());
    for seen in &picture.members {
        let name = match picture.leader.as_ref() == Some(&seen.name) {
            true => format!("{} (leads)", seen.name),
            false => seen.name.clone(),
        };
        if seen.silent.is_some() {
            away.push(name);
        } else if needs(picture, seen, work) || is_pending(seen, work) {
            left.push(name);
        } else {
            done.push(name);
        }
    }
    let parts = [("done", done), ("not yet", left), ("not known", away)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    parts
        .map(|(word, names)| format!("{word}: {}", names.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}
