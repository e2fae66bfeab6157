//! `log`: what is logged, and how.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::warning::WarningKind;
use crate::words::words;

words! {
    /// The form of log lines.
    LogType {
        /// For people.
        #[default]
        Plain = "plain",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// The least level that is logged. Python's names are read too.
    LogLevel {
        /// Errors only.
        Error = "error" | "critical" | "fatal",
        /// And warnings.
        Warn = "warn" | "warning",
        /// And what happens.
        #[default]
        Info = "info",
        /// And why.
        Debug = "debug" | "notset",
        /// Everything.
        Trace = "trace",
    }
}

/// Logging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The form of lines.
    pub kind: LogType,
    /// The least level.
    pub level: LogLevel,
    /// Directory for log files; absent: standard error.
    pub dir: Option<PathBuf>,
    /// How many old files to keep.
    pub file_num: u32,
    /// When to begin a new file (bytes).
    pub file_size: u64,
    /// Permissions of the files; `None`: by the umask.
    pub mode: Option<u32>,
    /// Further fields of lines as JSON.
    pub static_fields: Map<String, Value>,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("log", Kind::Section, "Logging."),
    key("log.type", Kind::Words(LogType::WORDS), "The form of lines.")
        .default("plain")
        .env("LOG_TYPE"),
    key("log.level", Kind::Words(LogLevel::WORDS), "The least level that is logged.")
        .default("info")
        .env("LOG_LEVEL"),
    key(
        "log.dir",
        Kind::Path,
        "Directory for log files (`patroni.log`, and before it `patroni.log.1` and so on); absent: standard error.",
    )
    .env("LOG_DIR"),
    key("log.file_num", Kind::Whole, "How many old files to keep; 0: a file never ends.")
        .default("4")
        .env("LOG_FILE_NUM"),
    key("log.file_size", Kind::Whole, "When to begin a new file, in bytes; 0: never.")
        .default("25000000")
        .env("LOG_FILE_SIZE"),
    key("log.mode", Kind::Text, "Permissions of the files, such as 0644; absent: by the umask.")
        .env("LOG_MODE"),
    key("log.static_fields", Kind::Map, "Further fields of each line with `type: json`.")
        .env("LOG_STATIC_FIELDS"),
    ignored("log.traceback_level").env("LOG_TRACEBACK_LEVEL"),
    ignored("log.format").env("LOG_FORMAT"),
    ignored("log.dateformat").env("LOG_DATEFORMAT"),
    ignored("log.max_queue_size").env("LOG_MAX_QUEUE_SIZE"),
    ignored("log.loggers").env("LOG_LOGGERS"),
    ignored("log.deduplicate_heartbeat_logs").env("LOG_DEDUPLICATE_HEARTBEAT_LOGS"),
];

impl Log {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("log");
        let kind = section.word("type").unwrap_or_default();
        if kind != LogType::Json
            && let Some(node) = section.given("static_fields")
        {
            let why = "only lines as JSON have fields: set log.type: json".to_owned();
            section.warn("static_fields", &node.place, WarningKind::Ignored { why });
        }
        Self {
            kind,
            level: section.word("level").unwrap_or_default(),
            dir: section.place("dir"),
            file_num: section.whole("file_num").unwrap_or_default(),
            file_size: section.whole("file_size").unwrap_or_default(),
            mode: section.scalar("mode", mode),
            static_fields: section.map("static_fields").unwrap_or_default(),
        }
    }
}

/// As Patroni reads it: octal with a 0 before it, and else decimal.
fn mode(text: &str) -> Option<u32> {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let read = match octal {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8),
        _ => text.parse(),
    };
    read.ok().filter(|mode| *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_read_as_patroni_reads_them() {
        assert_eq!(
            (mode("0644"), mode("0o600"), mode("420")),
            (Some(0o644), Some(0o600), Some(0o644))
        );
        assert_eq!(
            (mode("0"), mode("0888"), mode("1000"), mode("rw")),
            (Some(0), None, None, None)
        );
    }
}
