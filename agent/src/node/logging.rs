//! The log goes to stderr, for people or as JSON lines.

use hart_config::LogType;
use tracing_subscriber::EnvFilter;

/// Sets the log up. `HART_LOG_FILTER` (as in `RUST_LOG`) wins over `level`.
pub fn init(kind: LogType, level: &str) {
    let fallback = || EnvFilter::new(format!("warn,hart={level},hart_postgres={level}"));
    let filter = EnvFilter::try_from_env("HART_LOG_FILTER").unwrap_or_else(|_| fallback());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_timer(Clock)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let set = match kind {
        LogType::Plain => builder.try_init(),
        LogType::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second initialisation in one process (tests) changes nothing.
    drop(set);
}

struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", hart_clock::wall())
    }
}
