//! `watchdog`: the kernel's watchdog.

use std::path::PathBuf;
use std::time::Duration;

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::words::words;

words! {
    /// Is the kernel's watchdog used?
    WatchdogMode {
        /// No.
        Off = "off" | "false" | "no",
        /// Where there is one.
        #[default]
        Automatic = "automatic",
        /// A node without one may not lead.
        Required = "required",
    }
}

/// The kernel's watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Is it used?
    pub mode: WatchdogMode,
    /// Its device.
    pub device: PathBuf,
    /// How long before the end of the lease it strikes; absent: half of the ttl.
    pub safety_margin: Option<Duration>,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("watchdog", Kind::Section, "The kernel's watchdog."),
    key("watchdog.mode", Kind::Words(WatchdogMode::WORDS), "off, where there is one, or required.")
        .default("automatic"),
    key("watchdog.device", Kind::Path, "Its device.").default("/dev/watchdog"),
    key(
        "watchdog.safety_margin",
        Kind::Seconds,
        "How long before the end of the lease it strikes; -1: ttl/2.",
    )
    .default("5"),
    ignored("watchdog.driver"),
];

impl Watchdog {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("watchdog");
        let half = section.given("safety_margin").is_some_and(|node| node.to_json() == -1);
        Self {
            mode: section.word("mode").unwrap_or_default(),
            device: section.file("device").unwrap_or_default(),
            safety_margin: if half { None } else { section.seconds("safety_margin") },
        }
    }
}
