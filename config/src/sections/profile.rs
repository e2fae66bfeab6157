//! `profile`: timing for a kind of place.

use std::time::Duration;

use crate::words::words;

words! {
    /// How quickly a lost primary is replaced, against how much disturbance is sat out.
    Profile {
        /// One room, quiet machines: ttl 3 s.
        Fast = "fast",
        /// One site: ttl 6 s.
        #[default]
        Norm = "norm",
        /// Busy or overcommitted machines: ttl 15 s.
        Safe = "safe",
        /// Sites far apart: ttl 30 s.
        Wide = "wide",
    }
}

impl Profile {
    /// `ttl`, `loop_wait` and `retry_timeout` in seconds.
    pub(crate) fn timing(self) -> [(&'static str, u64); 3] {
        let (ttl, loop_wait, retry_timeout) = match self {
            Self::Fast => (3, 1, 1),
            Self::Norm => (6, 2, 2),
            Self::Safe => (15, 5, 5),
            Self::Wide => (30, 10, 10),
        };
        [("ttl", ttl), ("loop_wait", loop_wait), ("retry_timeout", retry_timeout)]
    }

    /// How long a lease lasts.
    #[must_use]
    pub fn ttl(self) -> Duration {
        Duration::from_secs(self.timing()[0].1)
    }

    /// The longest pause between two looks at the world.
    #[must_use]
    pub fn loop_wait(self) -> Duration {
        Duration::from_secs(self.timing()[1].1)
    }

    /// How long a call to Consul may be tried again.
    #[must_use]
    pub fn retry_timeout(self) -> Duration {
        Duration::from_secs(self.timing()[2].1)
    }
}
