//! The page of the command line, from clap's definitions.

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory};

use super::markdown::{code, codes, plain, section, title};

pub(super) fn page() -> String {
    let mut root = crate::cli::Cli::command();
    root.build();
    let mut page = title("Command line", "the definitions in `agent/src/cli`");
    page.push_str(&format!("\n{}\n", about(&root)));
    page.push_str(&synopsis(&root));
    page.push_str("\nOptions before the command:\n\n");
    page.push_str(&arguments(&root));
    if let Some(after) = root.get_after_long_help().or(root.get_after_help()) {
        page.push_str(&format!("\n{after}\n"));
    }
    for command in documented(&root) {
        page.push_str(&one(command));
    }
    page
}

/// Commands for people, without clap's own `help`.
fn documented(root: &Command) -> impl Iterator<Item = &Command> {
    root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn one(command: &Command) -> String {
    let heading = code(&format!("hart {}", command.get_name()));
    let arguments = arguments(command);
    let gap = if arguments.is_empty() { "" } else { "\n" };
    format!("{}{}{gap}{arguments}", section(&heading, &about(command)), synopsis(command))
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or(command.get_about());
    text.map(|text| sentence(&text.to_string())).unwrap_or_default()
}

/// In one line, with the full stop that clap takes away.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = plain(&line);
    if line.is_empty() || line.ends_with('.') { line } else { line + "." }
}

fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    format!("\n```\n{}\n```\n", usage.trim_start_matches("Usage:").trim())
}

/// A list of all arguments, without clap's own `--help` and `--version`.
fn arguments(command: &Command) -> String {
    let own = |arg: &&Arg| !matches!(arg.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(own).filter(|arg| !arg.is_hide_set()).map(argument).collect()
}

fn argument(arg: &Arg) -> String {
    let short = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = short.map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let help = sentence(&help.unwrap_or_default());
    format!("- {short}{}: {help}{}\n{}", code(&arg.to_string()), facts(arg), values(arg))
}

/// Words without an explanation, other names, default, environment variable.
fn facts(arg: &Arg) -> String {
    let mut facts = String::new();
    let possible = possible(arg);
    let plain = possible.iter().filter(|value| value.get_help().is_none());
    let plain = codes(plain.map(PossibleValue::get_name));
    if !plain.is_empty() {
        facts.push_str(&format!(" One of {plain}."));
    }
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    if !aliases.is_empty() {
        let names: Vec<_> = aliases.iter().map(|alias| format!("--{alias}")).collect();
        facts.push_str(&format!(" Also {}.", codes(names.iter().map(String::as_str))));
    }
    if arg.get_action().takes_values() && !arg.get_default_values().is_empty() {
        let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        facts.push_str(&format!(" Default: {}.", code(&values.collect::<Vec<_>>().join(" "))));
    }
    if let Some(name) = arg.get_env() {
        facts.push_str(&format!(" Environment: {}.", code(&name.to_string_lossy())));
    }
    facts
}

/// The words that it takes: in a list if they are explained.
fn values(arg: &Arg) -> String {
    let shown: Vec<_> =
        possible(arg).into_iter().filter(|value| value.get_help().is_some()).collect();
    let line = |value: &PossibleValue| {
        let help = value.get_help().map(|help| sentence(&help.to_string())).unwrap_or_default();
        format!("  - {}: {help}\n", code(value.get_name()))
    };
    shown.iter().map(line).collect()
}

fn possible(arg: &Arg) -> Vec<PossibleValue> {
    // clap has true and false for options that take no value.
    let takes = arg.get_action().takes_values();
    let values = arg.get_possible_values().into_iter();
    values.filter(|value| takes && !value.is_hide_set()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_on_the_page() {
        let page = page();
        let mut root = crate::cli::Cli::command();
        root.build();
        for command in documented(&root) {
            let start = page.find(&format!("\n## `hart {}`\n", command.get_name()));
            let part = &page[start.unwrap() + 1..];
            let part = &part[..part.find("\n## ").unwrap_or(part.len())];
            for long in command.get_arguments().filter_map(Arg::get_long).filter(|l| *l != "help") {
                assert!(part.contains(&format!("`--{long}")), "{}: {long}", command.get_name());
            }
        }
        assert!(!page.contains("## `hart reference`"), "it is for hart's own build");
    }

    #[test]
    fn everything_is_explained() {
        let mut root = crate::cli::Cli::command();
        root.build();
        for command in documented(&root) {
            assert!(!about(command).is_empty(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{}: {arg}", command.get_name());
            }
        }
    }
}
