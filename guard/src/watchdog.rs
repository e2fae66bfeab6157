//! The kernel's watchdog, as the guard is told of it and as it tells of it. How it is driven is in
//! `guard/dog`.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// Which watchdog the guard is to use while its PostgreSQL may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogSpec {
    /// The device, such as `/dev/watchdog`.
    pub device: PathBuf,
    /// The device is a pipe that takes the words of [`crate::watchdog`]'s stand-in: for tests.
    pub testing: bool,
    /// Without it PostgreSQL is neither started as primary nor promoted.
    pub required: bool,
    /// How long before another node may take over the machine is reset at the latest. `None`: as
    /// late as is safe. What the ttl does not leave room for is cut.
    pub safety_margin: Option<Duration>,
}

/// What the watchdog does, or why it does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Watchdog {
    /// None is configured.
    #[default]
    Off,
    /// Not in use, as long as PostgreSQL may not write.
    Idle,
    /// It resets the machine when the guard has not fed it for so long.
    Armed {
        /// Seconds.
        timeout_s: u32,
    },
    /// The operating system said no.
    Failed {
        /// Its reason (`errno`).
        errno: i32,
    },
    /// The shortest time it can be set to is too long for the lease.
    TooSlow {
        /// That time in seconds.
        timeout_s: u32,
        /// How far ahead the lease's deadline was, in milliseconds.
        lead_ms: u32,
    },
    /// The kernel would stop it when the guard dies (`WDIOF_MAGICCLOSE` is missing).
    NoMagicClose,
    /// It cannot be stopped once it runs (`nowayout`): an orderly stop would reset the machine.
    NoWayOut,
}

impl Watchdog {
    /// Does it protect now?
    #[must_use]
    pub const fn is_armed(self) -> bool {
        matches!(self, Self::Armed { .. })
    }

    /// Was it wanted, and cannot be had?
    #[must_use]
    pub const fn is_missing(self) -> bool {
        !matches!(self, Self::Off | Self::Idle | Self::Armed { .. })
    }

    pub(crate) const fn to_wire(self) -> (u8, u32, u32) {
        match self {
            Self::Off => (0, 0, 0),
            Self::Idle => (1, 0, 0),
            Self::Armed { timeout_s } => (2, timeout_s, 0),
            Self::Failed { errno } => (3, errno.cast_unsigned(), 0),
            Self::TooSlow { timeout_s, lead_ms } => (4, timeout_s, lead_ms),
            Self::NoMagicClose => (5, 0, 0),
            Self::NoWayOut => (6, 0, 0),
        }
    }

    pub(crate) const fn from_wire(state: u8, first: u32, second: u32) -> Option<Self> {
        Some(match state {
            0 => Self::Off,
            1 => Self::Idle,
            2 => Self::Armed { timeout_s: first },
            3 => Self::Failed { errno: first.cast_signed() },
            4 => Self::TooSlow { timeout_s: first, lead_ms: second },
            5 => Self::NoMagicClose,
            6 => Self::NoWayOut,
            _ => return None,
        })
    }
}

/// The least ttl, in whole seconds, under which a watchdog with this shortest timeout can be used:
/// of what a renewal leaves until the deadline the timeout may be two thirds.
fn least_ttl(timeout_s: u32) -> u64 {
    // ttl − ttl/10 ≥ timeout · 3/2, and 0.3 s for a margin that is not a tenth and for the way.
    (u64::from(timeout_s) * 50 + 9).div_ceil(30)
}

impl fmt::Display for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("not configured"),
            Self::Idle => f.write_str("not in use while PostgreSQL may not write"),
            Self::Armed { timeout_s } => {
                write!(f, "resets this machine when the guard is silent for {timeout_s} s")
            }
            Self::Failed { errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(
                    f,
                    "cannot be used: {error}; load a driver (modprobe softdog) and let PostgreSQL's \
                     user write the device"
                )
            }
            Self::TooSlow { timeout_s, lead_ms } => write!(
                f,
                "its shortest timeout is {timeout_s} s, too long for a lease that ends {lead_ms} ms \
                 after its renewal; raise ttl to {} s or more",
                least_ttl(*timeout_s)
            ),
            Self::NoMagicClose => f.write_str(
                "its driver lacks the magic close, so the kernel would stop it when the guard dies; \
                 use another driver, such as softdog",
            ),
            Self::NoWayOut => f.write_str(
                "it cannot be stopped once it runs (nowayout), so every orderly stop would reset \
                 the machine; load its driver with nowayout=0, or set watchdog.mode to required",
            ),
        }
    }
}

/// Stops a watchdog whose guard is dead: opened, and closed with the magic `V`. To be called only
/// when the last process of PostgreSQL is gone.
///
/// # Errors
/// The device cannot be opened or written.
pub fn stand_down(device: &Path) -> io::Result<()> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    OpenOptions::new().write(true).custom_flags(flags).open(device)?.write_all(b"V")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Watchdog; 7] = [
        Watchdog::Off,
        Watchdog::Idle,
        Watchdog::Armed { timeout_s: 7 },
        Watchdog::Failed { errno: 13 },
        Watchdog::TooSlow { timeout_s: 10, lead_ms: 2700 },
        Watchdog::NoMagicClose,
        Watchdog::NoWayOut,
    ];

    #[test]
    fn every_state_crosses_the_wire() {
        for state in ALL {
            let (code, first, second) = state.to_wire();
            assert_eq!(Watchdog::from_wire(code, first, second), Some(state));
        }
        assert_eq!(Watchdog::from_wire(7, 0, 0), None);
    }

    #[test]
    fn it_is_armed_or_missing_or_not_wanted() {
        let kinds: Vec<_> = ALL.map(|state| (state.is_armed(), state.is_missing())).into();
        let (no, armed, missing) = ((false, false), (true, false), (false, true));
        assert_eq!(kinds, [no, no, armed, missing, missing, missing, missing]);
    }

    #[test]
    fn the_texts_give_value_and_remedy() {
        let slow = Watchdog::TooSlow { timeout_s: 10, lead_ms: 2700 }.to_string();
        assert!(slow.contains("10 s") && slow.contains("2700 ms"), "{slow}");
        assert!(slow.contains("raise ttl to 17 s"), "{slow}");
        let failed = Watchdog::Failed { errno: libc::ENOENT }.to_string();
        assert!(failed.contains("No such file") && failed.contains("modprobe"), "{failed}");
    }
}
