//! Programs of other people's that hart runs, and how long they may take.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::tree::{Entry, Node, Tree};

/// A program and its arguments. No shell is involved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<String>);

impl Program {
    /// Splits a command as a POSIX shell does, without expanding anything; a `#` at the beginning of a
    /// word begins a comment. `None`: a quote is not closed, or there is no word at all.
    #[must_use]
    pub fn parse(command: &str) -> Option<Self> {
        let words = shlex::split(command)?;
        words.first().is_some_and(|program| !program.is_empty()).then_some(Self(words))
    }

    /// The program, then its arguments; never empty.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// How long each kind may take; then its process group is killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// One of `postgresql.callbacks`.
    pub callback_timeout: Duration,
    /// `postgresql.pre_promote`.
    pub pre_promote_timeout: Duration,
    /// `postgresql.before_stop`.
    pub before_stop_timeout: Duration,
    /// `bootstrap.post_bootstrap`.
    pub post_bootstrap_timeout: Duration,
    /// A command that makes a cluster or a replica, and the recovery after it.
    pub restore_timeout: Duration,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("hooks", Kind::Section, "How long programs may take that hart runs for somebody."),
    key(
        "hooks.callback_timeout",
        Kind::Seconds,
        "One of postgresql.callbacks; then it is killed with all that it has started.",
    )
    .default("60"),
    key(
        "hooks.pre_promote_timeout",
        Kind::Seconds,
        "postgresql.pre_promote; then it counts as a veto. A failover takes longer by what it takes.",
    )
    .default("20"),
    key(
        "hooks.before_stop_timeout",
        Kind::Seconds,
        "postgresql.before_stop; then PostgreSQL is stopped without it.",
    )
    .default("30"),
    key(
        "hooks.post_bootstrap_timeout",
        Kind::Seconds,
        "bootstrap.post_bootstrap; then it has failed, and the bootstrap with it.",
    )
    .default("600"),
    key(
        "hooks.restore_timeout",
        Kind::Seconds,
        "The command of bootstrap.method or of one of postgresql.create_replica_methods, and the \
         recovery of a restored cluster, each; then it has failed.",
    )
    .default("24h"),
];

/// The events of `postgresql.callbacks`.
pub(crate) const EVENTS: [&str; 5] =
    ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];

pub(crate) const CALLBACKS: &[KeyDoc] = &[
    key(
        "postgresql.callbacks",
        Kind::Section,
        "Programs that are called when something has happened, with the event, the role and the scope \
         behind their own arguments; nobody waits for them.",
    ),
    key("postgresql.callbacks.on_start", Kind::Text, "PostgreSQL has started and answers."),
    key("postgresql.callbacks.on_stop", Kind::Text, "PostgreSQL has been stopped by hart."),
    key("postgresql.callbacks.on_restart", Kind::Text, "PostgreSQL answers after a restart."),
    key(
        "postgresql.callbacks.on_reload",
        Kind::Text,
        "PostgreSQL was told to read its files again.",
    ),
    key("postgresql.callbacks.on_role_change", Kind::Text, "It is primary now, or is no more."),
];

impl Hooks {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("hooks");
        let seconds = |key: &str| section.seconds(key).unwrap_or_default();
        Self {
            callback_timeout: seconds("callback_timeout"),
            pre_promote_timeout: seconds("pre_promote_timeout"),
            before_stop_timeout: seconds("before_stop_timeout"),
            post_bootstrap_timeout: seconds("post_bootstrap_timeout"),
            restore_timeout: seconds("restore_timeout"),
        }
    }
}

/// The keys of a section with a command that are options of it, as `--key=value`; all but these.
pub(crate) fn arguments(parent: &Section<'_>, name: &str, own: &[&str]) -> Vec<String> {
    let section = parent.section(name);
    let entries = parent.given(name).map(Node::entries).unwrap_or_default();
    let options = entries.iter().filter(|entry| !own.contains(&entry.key.as_str()));
    options.filter_map(|entry| argument(&section, entry)).collect()
}

/// As Patroni, which writes booleans as Python does.
fn argument(section: &Section<'_>, entry: &Entry) -> Option<String> {
    let Entry { key, node, .. } = entry;
    let value = match (&node.tree, node.to_json()) {
        (_, Value::Bool(true)) => "True",
        (_, Value::Bool(false)) => "False",
        (_, Value::Null) => "None",
        (Tree::Scalar { text, .. }, _) => text,
        _ => {
            let what = format!("expected one value, found {}", node.found());
            section.problem(key, node, what, Kind::Text.hint());
            return None;
        }
    };
    Some(format!("--{key}={value}"))
}

/// `postgresql.callbacks`, by event.
pub(crate) fn callbacks(postgresql: &Section<'_>) -> BTreeMap<String, Program> {
    let section = postgresql.section("callbacks");
    let given = |event: &&str| Some(((*event).to_owned(), program(&section, event)?));
    EVENTS.iter().filter_map(given).collect()
}

/// The command of `key`; an empty one counts as not given, as in Patroni.
pub(crate) fn program(section: &Section<'_>, key: &str) -> Option<Program> {
    let text = section.text(key).filter(|text| !text.is_empty())?;
    let program = Program::parse(&text);
    if let (None, Some(node)) = (&program, section.given(key)) {
        // Not what was found: there may be a password among the arguments.
        let what = "expected a program and its arguments, found a quote that is not closed or no \
                    program at all";
        section.problem(
            key,
            node,
            what.to_owned(),
            "write it as in a shell, such as /usr/local/bin/told --to 'the whole team'",
        );
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_in_a_shell_and_nothing_is_expanded() {
        let words = |text| Program::parse(text).map(|program| program.words().join("|"));
        assert_eq!(words("/bin/a --x='b c' $HOME *"), Some("/bin/a|--x=b c|$HOME|*".into()));
        assert_eq!(words(r#"a "b \"c\"" d\ e"#), Some(r#"a|b "c"|d e"#.into()));
        for bad in ["", "  ", "a 'b", "''", "# nothing"] {
            assert_eq!(words(bad), None, "{bad:?}");
        }
    }
}
