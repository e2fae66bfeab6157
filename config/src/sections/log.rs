//! `log`: what is logged, and how.

use std::path::PathBuf;

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
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
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("log", Kind::Section, "Logging."),
    key("log.type", Kind::Words(LogType::WORDS), "The form of lines.")
        .default("plain")
        .env("LOG_TYPE"),
    key("log.level", Kind::Words(LogLevel::WORDS), "The least level that is logged.")
        .default("info")
        .env("LOG_LEVEL"),
    key("log.dir", Kind::Path, "Directory for log files; absent: standard error.")
        .env("LOG_DIR")
        .later(),
    key("log.file_num", Kind::Whole, "How many old files to keep.")
        .default("4")
        .env("LOG_FILE_NUM")
        .later(),
    key("log.file_size", Kind::Whole, "When to begin a new file, in bytes.")
        .default("25000000")
        .env("LOG_FILE_SIZE")
        .later(),
    ignored("log.traceback_level").env("LOG_TRACEBACK_LEVEL"),
    ignored("log.format").env("LOG_FORMAT"),
    ignored("log.dateformat").env("LOG_DATEFORMAT"),
    ignored("log.static_fields").env("LOG_STATIC_FIELDS"),
    ignored("log.max_queue_size").env("LOG_MAX_QUEUE_SIZE"),
    ignored("log.mode").env("LOG_MODE"),
    ignored("log.loggers").env("LOG_LOGGERS"),
    ignored("log.deduplicate_heartbeat_logs").env("LOG_DEDUPLICATE_HEARTBEAT_LOGS"),
];

impl Log {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("log");
        Self {
            kind: section.word("type").unwrap_or_default(),
            level: section.word("level").unwrap_or_default(),
            dir: section.file("dir"),
            file_num: section.whole("file_num").unwrap_or_default(),
            file_size: section.whole("file_size").unwrap_or_default(),
        }
    }
}
