//! `watchdog`: the kernel's watchdog.

use std::path::PathBuf;
use std::time::Duration;

use crate::keys::{KeyDoc, Kind, key};
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

words! {
    /// What the device is.
    WatchdogDriver {
        /// A device of Linux.
        #[default]
        Default = "default",
        /// A pipe that is told in words what a device is told by calls.
        Testing = "testing",
    }
}

/// The kernel's watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Is it used?
    pub mode: WatchdogMode,
    /// Its device.
    pub device: PathBuf,
    /// What that is.
    pub driver: WatchdogDriver,
    /// How long before another node may take over it strikes at the latest; absent: as late as is
    /// safe. More than the lease leaves room for is cut.
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
        "The watchdog's timeout is the ttl less this (5 where it is not given), half of the lease at least; \
         -1: half of it. And it strikes so long before another node may take over, as far as the ttl \
         leaves room for that, ttl/10 and 0.3 at least.",
    ),
    key(
        "watchdog.driver",
        Kind::Words(WatchdogDriver::WORDS),
        "testing: the device is a pipe, and a test reads it.",
    )
    .default("default"),
];

impl Watchdog {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("watchdog");
        let most = section.given("safety_margin").is_some_and(|node| node.to_json() == -1);
        Self {
            mode: section.word("mode").unwrap_or_default(),
            device: section.file("device").unwrap_or_default(),
            driver: section.word("driver").unwrap_or_default(),
            safety_margin: if most {
                Some(Duration::MAX)
            } else {
                section.seconds("safety_margin")
            },
        }
    }
}
