//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::Fail;

/// Can somebody answer?
#[must_use]
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a text; an empty answer is the default. Questions go to stderr, so that stdout stays
/// data.
///
/// # Errors
/// The input ended.
pub fn text(question: &str, default: &str) -> Result<String, Fail> {
    let shown = if default.is_empty() { "" } else { &format!(" [{default}]") };
    eprint!("{question}{shown}: ");
    // A lost prompt is no reason to give up.
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    if read == 0 {
        eprintln!();
        return Err(aborted());
    }
    let answer = line.trim();
    Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
}

/// Asks for a word that is not shown.
///
/// # Errors
/// There is no terminal, or the input ended.
pub fn secret(question: &str) -> Result<String, Fail> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let none = |_| {
        Fail::usage("the password is asked for at a terminal, and there is none")
            .hint("give it in PGPASSWORD or ~/.pgpass instead")
    };
    let input = std::io::stdin();
    let before = tcgetattr(&input).map_err(none)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSANOW, &hidden).map_err(none)?;
    let answer = text(question, "");
    let restored = tcsetattr(&input, SetArg::TCSANOW, &before);
    eprintln!();
    restored.map_err(none)?;
    answer
}

/// Asks whether to go on, unless `force`.
///
/// # Errors
/// The answer was no, or nobody can answer.
pub fn confirm(question: &str, force: bool) -> Result<(), Fail> {
    if force {
        return Ok(());
    }
    if !is_interactive() {
        return Err(Fail::usage("this needs a confirmation, and there is no terminal to ask at")
            .hint("add --force to go on without"));
    }
    let answer = text(&format!("{question} [y/N]"), "")?;
    if is_yes(&answer) { Ok(()) } else { Err(aborted()) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")
}

fn aborted() -> Fail {
    Fail::failed("aborted; nothing was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_counts() {
        assert!(is_yes("Y") && is_yes("yes"));
        assert!(!is_yes("") && !is_yes("n") && !is_yes("yeah"));
    }
}
