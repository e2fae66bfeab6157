//! What `hart agent` takes.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hart_config::{LogLevel, LogType};

/// Arguments of `hart agent`.
#[derive(Args, Clone, Debug, Default)]
pub struct AgentArgs {
    /// The configuration: a YAML file in Patroni's form, or a directory of *.yml.
    ///
    /// Without it, the environment alone is read (HART_CONFIGURATION and single HART_* or
    /// PATRONI_* variables).
    pub file: Option<PathBuf>,

    /// Run as this user when started as root (PostgreSQL refuses to run as root).
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Take over a PostgreSQL that runs already at the first start of an agent here.
    ///
    /// It is stopped in good order and started again under hart's guard. Without this such a server is
    /// left alone, and the agent does not start.
    #[arg(long)]
    pub adopt: bool,

    /// Log this much, whatever the configuration says.
    #[arg(long, value_name = "LEVEL", value_parser = levels())]
    pub log_level: Option<LogLevel>,

    /// Log for people (plain) or for machines (json), whatever the configuration says.
    #[arg(long, value_name = "TYPE", value_parser = types())]
    pub log_type: Option<LogType>,
}

fn levels() -> impl TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]).map(|word| {
        match word.as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        }
    })
}

fn types() -> impl TypedValueParser<Value = LogType> {
    PossibleValuesParser::new(["plain", "json"]).map(|word| match word.as_str() {
        "json" => LogType::Json,
        _ => LogType::Plain,
    })
}
