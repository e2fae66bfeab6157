//! `config`: the settings that all nodes share. They are seeded from `bootstrap.dcs`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::slots::PermanentSlots;

/// How commits wait for standbys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynchronousMode {
    /// They do not.
    #[default]
    Off,
    /// They wait for named standbys.
    On,
    /// They wait for as many of the named standbys as there are synchronous ones wanted, whichever
    /// confirm first.
    Quorum,
}

/// What happens to the lease of a holder that is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// It is waited for until it has run out.
    #[default]
    Wait,
    /// In synchronous mode a published standby takes it before: without that one the holder acknowledges
    /// nothing any more.
    Revoke,
}

/// The part of `postgresql:` that all nodes share.
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresqlSection {
    /// Repair a diverged node with `pg_rewind`.
    pub use_pg_rewind: bool,
    /// Keep a physical replication slot for every member.
    pub use_slots: bool,
    /// Server parameters.
    pub parameters: Map<String, Value>,
    /// Lines of `pg_hba.conf`, where given.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of `pg_ident.conf`, where given.
    pub pg_ident: Option<Vec<String>>,
}

/// The shared settings with their defaults filled in. [`DynamicConfig::raw`] is what is stored:
/// nothing in it is ever dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicConfig {
    /// How long a lease lasts: [`TTL_MIN`] to [`TTL_MAX`], whatever is stored.
    pub ttl: Duration,
    /// The longest pause between two looks at the world.
    pub loop_wait: Duration,
    /// Patroni's; nothing rests on it here.
    pub retry_timeout: Duration,
    /// A candidate further behind than this (bytes) is not promoted by itself in async mode.
    pub maximum_lag_on_failover: u64,
    /// How long a crashed or starting primary may take before another node is preferred; zero: one that
    /// has crashed is not started again where another node may lead.
    pub primary_start_timeout: Duration,
    /// How long an orderly stop waits for the shutdown checkpoint; zero: the node's own setting.
    pub primary_stop_timeout: Duration,
    /// Is the lease of a silent holder waited for?
    pub takeover: Takeover,
    /// How long a holder is silent before its lease may be revoked: [`SUSPECT_MIN`] to [`SUSPECT_MAX`].
    pub suspect_after: Duration,
    /// Go on writing without Consul while all members agree.
    pub failsafe_mode: bool,
    /// Automatic actions are suspended.
    pub pause: bool,
    /// Synchronous replication.
    pub synchronous_mode: SynchronousMode,
    /// Never fall back to asynchronous replication.
    pub synchronous_mode_strict: bool,
    /// How many synchronous standbys there should be.
    pub synchronous_node_count: usize,
    /// A standby further behind than this (bytes) is not made, and does not stay, synchronous;
    /// `None` (-1): any may.
    pub maximum_lag_on_syncnode: Option<u64>,
    /// How long a primary may be sick before another node is preferred; `None` (0): for ever.
    pub unhealthy_timeout: Option<Duration>,
    /// How long the slot of a member that is away is kept.
    pub member_slots_ttl: Duration,
    /// Slots that outlive a change of the leader, and those that are left alone.
    pub slots: PermanentSlots,
    /// PostgreSQL's part.
    pub postgresql: PostgresqlSection,
    /// As stored.
    pub raw: Map<String, Value>,
}

/// A value in `config` has the wrong shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct ConfigError {
    /// The field, dotted.
    pub field: String,
    /// What was expected.
    pub expected: &'static str,
    /// What was there, as JSON.
    pub found: String,
}

impl Default for DynamicConfig {
    fn default() -> Self {
        Self::from_raw(Map::new()).unwrap_or_else(|_| unreachable!("an empty map has no field"))
    }
}

/// The shortest lease: renewals run every ttl/4, and the margin is at least 300 ms.
pub const TTL_MIN: Duration = Duration::from_secs(2);

/// The longest lease. A lease record that has vanished from the store is waited for as long as the
/// longest lease that anybody could have been given: this bound makes that time known to everybody.
pub const TTL_MAX: Duration = Duration::from_secs(30);

/// The least `suspect_after`: the members' answers have 350 ms, and have to fit in.
pub const SUSPECT_MIN: Duration = Duration::from_millis(500);

/// The longest `suspect_after`: the longest lease.
pub const SUSPECT_MAX: Duration = TTL_MAX;

/// The default of `unhealthy_timeout` is twice the ttl, but at least this: a busy server must not
/// be taken for a sick one.
pub const UNHEALTHY_MIN: Duration = Duration::from_secs(10);

/// The default of `unhealthy_timeout` in synchronous mode.
pub const UNHEALTHY_SYNC: Duration = Duration::from_secs(3);

/// The least `unhealthy_timeout` in synchronous mode: two questions that are not answered.
const UNHEALTHY_LEAST: Duration = Duration::from_secs(2);

impl DynamicConfig {
    /// Reads the stored form.
    ///
    /// # Errors
    /// Names the first field whose value has the wrong shape.
    pub fn from_raw(raw: Map<String, Value>) -> Result<Self, ConfigError> {
        let top = Fields { at: "", map: &raw };
        let ttl = top.seconds("ttl", 6.0)?.clamp(TTL_MIN, TTL_MAX);
        let postgresql = top.section("postgresql")?;
        Ok(Self {
            ttl,
            loop_wait: top.seconds("loop_wait", 2.0)?.max(Duration::from_millis(100)),
            retry_timeout: top.seconds("retry_timeout", 2.0)?.max(Duration::from_millis(100)),
            maximum_lag_on_failover: top.bytes("maximum_lag_on_failover", 1 << 20)?,
            primary_start_timeout: top.either_seconds(
                "primary_start_timeout",
                "master_start_timeout",
                300.0,
            )?,
            primary_stop_timeout: top.either_seconds(
                "primary_stop_timeout",
                "master_stop_timeout",
                0.0,
            )?,
            takeover: top.takeover()?,
            suspect_after: top.seconds("suspect_after", 1.0)?.clamp(SUSPECT_MIN, SUSPECT_MAX),
            failsafe_mode: top.flag("failsafe_mode", true)?,
            pause: top.flag("pause", false)?,
            synchronous_mode: top.synchronous_mode()?,
            synchronous_mode_strict: top.flag("synchronous_mode_strict", false)?,
            synchronous_node_count: usize::try_from(top.bytes("synchronous_node_count", 1)?)
                .unwrap_or(1)
                .max(1),
            maximum_lag_on_syncnode: top.limit("maximum_lag_on_syncnode")?,
            unhealthy_timeout: top.unhealthy_timeout(ttl, top.synchronous_mode()?)?,
            member_slots_ttl: top.seconds("member_slots_ttl", 1800.0)?,
            slots: PermanentSlots::read(&raw),
            postgresql: PostgresqlSection {
                use_pg_rewind: postgresql.flag("use_pg_rewind", false)?,
                use_slots: postgresql.flag("use_slots", true)?,
                parameters: postgresql.section("parameters")?.map.clone(),
                pg_hba: postgresql.lines("pg_hba")?,
                pg_ident: postgresql.lines("pg_ident")?,
            },
            raw,
        })
    }

    /// The ttl that is stored, where it is not the one that is used.
    #[must_use]
    pub fn ttl_out_of_bounds(&self) -> Option<Duration> {
        let top = Fields { at: "", map: &self.raw };
        top.seconds("ttl", 6.0).ok().filter(|stored| *stored != self.ttl)
    }

    /// The pause between two renewals: a quarter of the ttl, `loop_wait` at most.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        (self.ttl / 4).min(self.loop_wait)
    }

    /// What `PATCH /config` does: `null` deletes a key, maps are merged, all else replaces.
    #[must_use]
    pub fn patched(raw: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = raw.clone();
        for (key, change) in patch {
            match (merged.get_mut(key), change) {
                (_, Value::Null) => drop(merged.shift_remove(key)),
                (Some(Value::Object(old)), Value::Object(new)) => *old = Self::patched(old, new),
                _ => drop(merged.insert(key.clone(), change.clone())),
            }
        }
        merged
    }
}

struct Fields<'a> {
    at: &'static str,
    map: &'a Map<String, Value>,
}

static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> Fields<'a> {
    fn wrong(&self, key: &str, expected: &'static str) -> ConfigError {
        let field = if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) };
        let found = self.map.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        ConfigError { field, expected, found }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(word)) => {
                parse_flag(word).ok_or_else(|| self.wrong(key, "true or false"))
            }
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn seconds(&self, key: &str, default: f64) -> Result<Duration, ConfigError> {
        let wrong = || self.wrong(key, "a number of seconds");
        let seconds = match self.get(key) {
            None => default,
            Some(Value::Number(number)) => number.as_f64().ok_or_else(wrong)?,
            Some(Value::String(text)) => parse_seconds(text.trim()).ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
    }

    fn either_seconds(
        &self,
        key: &str,
        old_name: &str,
        default: f64,
    ) -> Result<Duration, ConfigError> {
        let key = if self.get(key).is_none() { old_name } else { key };
        self.seconds(key, default)
    }

    fn bytes(&self, key: &str, default: u64) -> Result<u64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
                .ok_or_else(|| self.wrong(key, "a whole number of 0 or more")),
        }
    }

    /// Bytes; a negative number is no limit.
    fn limit(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.ok_or_else(|| self.wrong(key, "a whole number, or -1 for no limit"))?;
        Ok(u64::try_from(number).ok())
    }

    /// A standby that takes over in synchronous mode has everything: a false alarm loses nothing there.
    fn unhealthy_timeout(
        &self,
        ttl: Duration,
        mode: SynchronousMode,
    ) -> Result<Option<Duration>, ConfigError> {
        let (default, least) = match mode {
            SynchronousMode::Off => ((ttl * 2).max(UNHEALTHY_MIN), ttl),
            _ => (UNHEALTHY_SYNC, UNHEALTHY_LEAST),
        };
        let given = self.seconds("unhealthy_timeout", default.as_secs_f64())?;
        Ok((!given.is_zero()).then(|| given.max(least)))
    }

    fn synchronous_mode(&self) -> Result<SynchronousMode, ConfigError> {
        let key = "synchronous_mode";
        match self.get(key) {
            Some(Value::String(word)) if word.eq_ignore_ascii_case("quorum") => {
                Ok(SynchronousMode::Quorum)
            }
            _ if self.flag(key, false).map_err(|_| self.wrong(key, "on, off or quorum"))? => {
                Ok(SynchronousMode::On)
            }
            _ => Ok(SynchronousMode::Off),
        }
    }

    fn takeover(&self) -> Result<Takeover, ConfigError> {
        match self.get("takeover") {
            None => Ok(Takeover::Wait),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("wait") => Ok(Takeover::Wait),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("revoke") => {
                Ok(Takeover::Revoke)
            }
            Some(_) => Err(self.wrong("takeover", "wait or revoke")),
        }
    }

    fn section(&self, key: &'static str) -> Result<Fields<'a>, ConfigError> {
        match self.get(key) {
            None => Ok(Fields { at: key, map: &EMPTY }),
            Some(Value::Object(map)) => Ok(Fields { at: key, map }),
            Some(_) => Err(self.wrong(key, "a section of keys and values")),
        }
    }

    fn lines(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let wrong = || self.wrong(key, "a list of lines");
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(wrong)?;
        let line = |line: &Value| line.as_str().map(str::to_owned).ok_or_else(wrong);
        list.iter().map(line).collect::<Result<_, _>>().map(Some)
    }
}

/// A number of seconds, or one with a unit, as PostgreSQL writes times.
fn parse_seconds(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(number.len()..)? {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number.trim_end().parse::<f64>().ok()? * factor)
}

pub(super) fn parse_flag(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<DynamicConfig, ConfigError> {
        DynamicConfig::from_raw(value.as_object().unwrap().clone())
    }

    #[test]
    fn defaults_are_the_profile_norm() {
        let config = DynamicConfig::default();
        assert_eq!(config.ttl, Duration::from_secs(6));
        assert_eq!(config.renew_every(), Duration::from_millis(1500));
        assert!(config.failsafe_mode && config.postgresql.use_slots);
    }

    #[test]
    fn a_lease_is_never_shorter_or_longer_than_the_bounds() {
        let ttl = |seconds: f64| read(json!({ "ttl": seconds })).unwrap().ttl;
        assert_eq!((ttl(0.0), ttl(30.0), ttl(86_400.0)), (TTL_MIN, TTL_MAX, TTL_MAX));
    }

    #[test]
    fn a_lease_is_waited_for_unless_somebody_says_otherwise() {
        let takeover = |value: Value| read(json!({ "takeover": value })).map(|it| it.takeover);
        assert_eq!(DynamicConfig::default().takeover, Takeover::Wait);
        assert_eq!(takeover(json!("revoke")), Ok(Takeover::Revoke));
        assert_eq!(takeover(json!("wait")), Ok(Takeover::Wait));
        let error = takeover(json!("at once")).unwrap_err().to_string();
        assert_eq!(error, "takeover: expected wait or revoke, found \"at once\"");
        let after = |value: Value| read(json!({ "suspect_after": value })).unwrap().suspect_after;
        assert_eq!(DynamicConfig::default().suspect_after, Duration::from_secs(1));
        assert_eq!((after(json!(0)), after(json!("2s"))), (SUSPECT_MIN, Duration::from_secs(2)));
        assert_eq!(after(json!(3600)), SUSPECT_MAX);
    }

    #[test]
    fn times_may_have_a_unit() {
        let read = |value: Value| read(json!({ "member_slots_ttl": value }));
        let ttl = |value: Value| read(value).unwrap().member_slots_ttl.as_secs();
        assert_eq!(DynamicConfig::default().member_slots_ttl.as_secs(), 1800);
        assert_eq!([ttl(json!(90)), ttl(json!("90")), ttl(json!("2 min"))], [90, 90, 120]);
        assert_eq!((ttl(json!("1h")), ttl(json!("0"))), (3600, 0));
        assert!(read(json!("1 fortnight")).is_err() && read(json!("-1min")).is_err());
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let error = read(json!({"postgresql": {"use_slots": 7}})).unwrap_err();
        assert_eq!(error.to_string(), "postgresql.use_slots: expected true or false, found 7");
        let error = read(json!({"ttl": "soon"})).unwrap_err();
        assert_eq!(error.to_string(), "ttl: expected a number of seconds, found \"soon\"");
        assert!(read(json!({"ttl": -1})).is_err());
    }

    #[test]
    fn limits_may_be_switched_off() {
        let config = read(json!({"ttl": 3})).unwrap();
        assert_eq!(config.unhealthy_timeout, Some(UNHEALTHY_MIN));
        assert_eq!(config.maximum_lag_on_syncnode, None);
        let config = read(json!({"ttl": 15, "maximum_lag_on_syncnode": -1})).unwrap();
        assert_eq!(config.unhealthy_timeout, Some(Duration::from_secs(30)));
        assert_eq!(config.maximum_lag_on_syncnode, None);
        let config =
            read(json!({"unhealthy_timeout": 0, "maximum_lag_on_syncnode": "1024"})).unwrap();
        assert_eq!(config.unhealthy_timeout, None);
        assert_eq!(config.maximum_lag_on_syncnode, Some(1024));
        let short = read(json!({"ttl": 4, "unhealthy_timeout": 1})).unwrap();
        assert_eq!(short.unhealthy_timeout, Some(Duration::from_secs(4)), "at least one ttl");
        let sync = |timeout: Value| {
            let mut raw = json!({"ttl": 15, "synchronous_mode": "quorum"});
            raw["unhealthy_timeout"] = timeout;
            read(raw).unwrap().unhealthy_timeout
        };
        assert_eq!(sync(Value::Null), Some(UNHEALTHY_SYNC), "whatever the ttl");
        assert_eq!(sync(json!(1)), Some(UNHEALTHY_LEAST));
        assert_eq!((sync(json!(20)), sync(json!(0))), (Some(Duration::from_secs(20)), None));
        assert!(read(json!({"maximum_lag_on_syncnode": "much"})).is_err());
    }

    #[test]
    fn a_patch_merges_and_null_deletes() {
        let raw = json!({"ttl": 5, "postgresql": {"parameters": {"a": 1, "b": 2}}});
        let patch = json!({"ttl": null, "postgresql": {"parameters": {"b": 3}}});
        let merged = DynamicConfig::patched(raw.as_object().unwrap(), patch.as_object().unwrap());
        assert_eq!(Value::Object(merged), json!({"postgresql": {"parameters": {"a": 1, "b": 3}}}));
    }
}
