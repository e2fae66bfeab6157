//! `hart reference`: the pages of `docs/reference`, from the definitions that hart itself works by.
//! Hidden: `cargo xtask docs` calls it.

mod cli;
mod config;
mod keys;
mod markdown;
mod rest;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// Arguments of `hart reference`.
#[derive(Args, Clone, Debug)]
pub struct ReferenceArgs {
    /// Which page.
    #[arg(value_enum)]
    page: Page,
}

/// A page of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// Keys of the configuration, and environment variables.
    Config,
    /// Commands and options.
    Cli,
    /// Paths of the REST API.
    Rest,
    /// What is stored in Consul.
    Keys,
}

impl Page {
    /// The page in Markdown. The same text on every machine.
    #[must_use]
    pub fn render(self) -> String {
        match self {
            Self::Config => config::page(),
            Self::Cli => cli::page(),
            Self::Rest => rest::page(),
            Self::Keys => keys::page(),
        }
    }
}

/// Prints the page.
pub fn run(args: &ReferenceArgs) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(args.page.render().as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
