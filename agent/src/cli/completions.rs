//! `hart completions` and `hart man`: what a shell and `man` know of the commands, from their definitions.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::fail::Fail;

/// Arguments of `hart completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `hart man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// An existing folder for the pages.
    directory: PathBuf,
}

/// Prints the completions, to be kept where the shell looks for them.
///
/// # Errors
/// None; a reader that went away ends the command.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Fail> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hart", &mut text);
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&text).and_then(|()| out.flush());
    Ok(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes `hart.1` and a page for each command.
///
/// # Errors
/// A file cannot be written.
pub fn man(args: &ManArgs) -> Result<ExitCode, Fail> {
    let mut all = Cli::command();
    all.build();
    page(&args.directory, &all, "hart")?;
    for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
        page(&args.directory, command, &format!("hart-{}", command.get_name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(folder: &Path, command: &clap::Command, name: &str) -> Result<(), Fail> {
    let file = folder.join(format!("{name}.1"));
    let failed = |error| Fail::from_error(&format!("writing {}", file.display()), &error);
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text).map_err(failed)?;
    std::fs::write(&file, linted(&String::from_utf8_lossy(&text), name)).map_err(failed)
}

/// Of the pages; a date of the build would make each build another one.
const DATE: &str = "2026-12-01";

/// As mandoc and groff want it: the library writes the name of the program where the date belongs, and breaks lines
/// around empty ones.
fn linted(page: &str, name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(".TH {} 1 {DATE} \"hart {version}\" \"\"", name.to_uppercase());
    let line = |line: &str| match line.starts_with(".TH ") {
        true => head.clone(),
        false => line.to_owned(),
    };
    let page: Vec<String> = page.lines().map(line).collect();
    page.join("\n").replace("\n.br\n\n.br\n", "\n.sp\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// `program` finds nothing wrong with the file: it succeeds, and says nothing. Where it is not installed, nothing
    /// is known.
    fn is_clean(program: &str, arguments: &[&str], file: &Path) {
        let Ok(output) = Command::new(program).args(arguments).arg(file).output() else {
            return eprintln!("SKIPPED: there is no {program}");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        // mandoc writes what it finds to standard output.
        let found =
            if program == "mandoc" { String::from_utf8_lossy(&output.stdout) } else { "".into() };
        let clean = output.status.success() && said.trim().is_empty() && found.trim().is_empty();
        assert!(clean, "{program} {}: {}\n{said}{found}", file.display(), output.status);
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hart-{name}-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn shells_read_the_completions() {
        let folder = folder("completions");
        for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let file = folder.join(name);
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hart", &mut text);
            for command in ["generate-config", "edit-config", "why"] {
                assert!(String::from_utf8_lossy(&text).contains(command), "{name}: {command}");
            }
            std::fs::write(&file, text).unwrap();
            is_clean(name, &["-n"], &file);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn man_reads_the_pages() {
        let folder = folder("man");
        man(&ManArgs { directory: folder.clone() }).unwrap();
        let pages: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(pages.len() > 25, "{pages:?}");
        for page in &pages {
            is_clean(
                "man",
                &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-P", "true"],
                page,
            );
            is_clean("mandoc", &["-T", "lint", "-W", "warning"], page);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
