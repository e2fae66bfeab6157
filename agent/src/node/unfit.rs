//! Where a kernel watchdog is required, a node without one does not lead.

use hart_config::{Config, WatchdogDriver, WatchdogMode};
use hart_guard::WatchdogSpec;
use hart_ha::kv::Tags;
use hart_ha::time::Time;
use nix::unistd::{AccessFlags, access};

/// What the guard is told.
pub fn watchdog(config: &Config) -> Option<WatchdogSpec> {
    let watchdog = &config.watchdog;
    (watchdog.mode != WatchdogMode::Off).then(|| WatchdogSpec {
        device: watchdog.device.clone(),
        testing: watchdog.driver == WatchdogDriver::Testing,
        required: watchdog.mode == WatchdogMode::Required,
        safety_margin: watchdog.safety_margin,
    })
}

/// Why this node must not lead, as far as that shows without starting the watchdog: opening it
/// would. The guard is the one that finds out whether it fits the lease.
pub fn problem(config: &Config) -> Option<String> {
    let spec = watchdog(config).filter(|spec| spec.required)?;
    let errno = access(&spec.device, AccessFlags::W_OK).err()?;
    Some(format!(
        "watchdog.mode is required, and {} cannot be used: {}; load a driver (modprobe softdog), let \
         PostgreSQL's user write the device, and run hart reload",
        spec.device.display(),
        errno.desc()
    ))
}

/// Whether this node may not lead for want of a watchdog.
#[derive(Debug)]
pub struct Unfit {
    /// Why not.
    pub why: Option<String>,
    /// When that is looked at again: what the guard refused may have passed.
    pub until: Time,
}

impl Unfit {
    /// As far as it shows without the guard.
    pub fn look(config: &Config) -> Self {
        Self { why: problem(config), until: Time::ZERO }
    }

    /// It is so.
    pub fn holds(&self) -> bool {
        self.why.is_some()
    }
}

/// The tags that count: an unfit node is one that is not to be promoted.
pub fn tags(config: &Config, unfit: bool) -> Tags {
    let tags = config.tags.clone();
    Tags { nofailover: tags.nofailover || unfit, ..tags }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(watchdog: &str) -> Config {
        let text = format!(
            "scope: demo\nname: n1\nrestapi: {{listen: '127.0.0.1:8008'}}\n\
             consul: {{host: '127.0.0.1:8500'}}\n\
             postgresql:\n  listen: '127.0.0.1:5432'\n  data_dir: /nowhere\n  authentication:\n    \
             superuser: {{username: postgres}}\n    replication: {{username: replicator}}\n\
             watchdog: {watchdog}\n"
        );
        hart_config::load_text("n1.yml", &text, []).unwrap().config
    }

    #[test]
    fn only_what_is_required_makes_unfit() {
        assert_eq!(watchdog(&config("{mode: off}")), None);
        let missing = "/dev/no-such-watchdog";
        let automatic = config(&format!("{{mode: automatic, device: {missing}}}"));
        assert_eq!(problem(&automatic), None);
        assert!(watchdog(&automatic).is_some_and(|spec| !spec.required));
        let required = config(&format!("{{mode: required, device: {missing}}}"));
        let text = problem(&required).unwrap();
        assert!(text.contains(missing) && text.contains("modprobe"), "{text}");
        assert_eq!(problem(&config("{mode: required, device: /dev/null}")), None);
        assert!(tags(&required, true).nofailover && !tags(&required, false).nofailover);
    }
}
