//! What a command prints as its result.

use std::io::Write;
use std::process::ExitCode;

/// Prints a text and a line break. A reader that went away (`hart list | head`) ends the command.
pub fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
