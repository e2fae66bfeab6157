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
    std::fs::write(&file, text).map_err(failed)
}
