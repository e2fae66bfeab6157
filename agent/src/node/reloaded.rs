//! What a changed configuration takes to come into force: each key that was changed and is not in force after a
//! reload is named, with what brings it.

use std::collections::BTreeSet;

use hart_config::Config;
use serde_json::{Map, Value};

/// What brings a key into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// The agent is started anew; PostgreSQL goes on under its guard.
    Agent,
    /// PostgreSQL is restarted.
    Postgres,
    /// It counts when a cluster is made.
    Cluster,
}

/// By the beginning of the key; what is not here is in force after the reload, or refused.
const TABLE: &[(&str, Needs)] = &[
    ("namespace", Needs::Agent),
    ("profile", Needs::Cluster),
    ("bootstrap", Needs::Cluster),
    ("log.type", Needs::Agent),
    ("restapi.listen", Needs::Agent),
    ("restapi.connect_address", Needs::Agent),
    ("restapi.open", Needs::Agent),
    ("restapi.allowlist", Needs::Agent),
    ("restapi.allowlist_include_members", Needs::Agent),
    ("restapi.http_extra_headers", Needs::Agent),
    ("restapi.https_extra_headers", Needs::Agent),
    ("consul.checks", Needs::Agent),
    ("consul.register_service", Needs::Agent),
    ("consul.service_tags", Needs::Agent),
    ("consul.service_check_interval", Needs::Agent),
    ("consul.service_check_tls_server_name", Needs::Agent),
    ("postgresql.listen", Needs::Postgres),
    ("postgresql.connect_address", Needs::Agent),
    ("postgresql.remove_data_directory_on_rewind_failure", Needs::Agent),
    ("postgresql.remove_data_directory_on_diverged_timelines", Needs::Agent),
    ("postgresql.remove_data_directory_on_missing_wal", Needs::Agent),
    ("watchdog", Needs::Agent),
    ("guard", Needs::Agent),
    ("dns", Needs::Agent),
    ("vip", Needs::Agent),
    ("pgbouncer", Needs::Agent),
];

fn needs(key: &str) -> Option<Needs> {
    let is_below = |whole: &str| {
        key.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    TABLE.iter().find(|(whole, _)| is_below(whole)).map(|(_, needs)| *needs)
}

/// A sentence for each kind of what is not in force. Restarts of the agent take all keys that have been
/// changed since it began: `begun` is its configuration then.
pub fn left_over(begun: &Config, old: &Config, new: &Config) -> Vec<String> {
    let since = |config: &Config| {
        let mut keys = BTreeSet::new();
        differing("", config.redacted_json(), new.redacted_json(), &mut keys);
        keys
    };
    let (ever, now) = (since(begun), since(old));
    let of = |keys: &BTreeSet<String>, what| -> String {
        let keys: Vec<_> = keys.iter().filter(|key| needs(key) == Some(what)).cloned().collect();
        keys.join(", ")
    };
    // A restart of the unit would stop PostgreSQL.
    let agent = format!(
        "in force when the agent is started anew: hart upgrade-agent {} {} (PostgreSQL goes on)",
        new.scope, new.name
    );
    let said = [
        (of(&ever, Needs::Agent), agent.as_str()),
        (of(&now, Needs::Postgres), "in force when PostgreSQL is restarted (hart restart)"),
        (
            of(&now, Needs::Cluster),
            "of no effect, the cluster is there: change the shared settings (PATCH /config)",
        ),
    ];
    let said = said.iter().filter(|(keys, _)| !keys.is_empty());
    said.map(|(keys, what)| format!("{keys}: {what}")).collect()
}

/// The dotted keys whose values differ.
fn differing(path: &str, old: &Value, new: &Value, keys: &mut BTreeSet<String>) {
    let nothing = Map::new();
    let (before, after) = match (old, new) {
        (Value::Object(before), Value::Object(after)) => (before, after),
        (Value::Object(before), Value::Null) => (before, &nothing),
        (Value::Null, Value::Object(after)) => (&nothing, after),
        _ => {
            if old != new {
                keys.insert(path.to_owned());
            }
            return;
        }
    };
    for key in before.keys().chain(after.keys()) {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let [old, new] = [before, after].map(|map| map.get(key).unwrap_or(&Value::Null));
        differing(&below, old, new, keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!(
            "scope: demo\nname: n1\nconsul: {{host: '127.0.0.1:8500'}}\n{more}\
             restapi: {{listen: '127.0.0.1:8008'}}\n\
             postgresql:\n  listen: '127.0.0.1:5432'\n  data_dir: /nowhere\n"
        );
        hart_config::load_text("n1.yml", &text, []).unwrap().config
    }

    #[test]
    fn each_changed_key_has_its_word() {
        let old = config("log: {level: info}\n");
        let new = config(
            "log: {level: debug, type: json}\nbootstrap: {dcs: {ttl: 9}}\nguard: {cgroup: off}\n",
        );
        let said = left_over(&old, &old, &new);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("guard.cgroup, log.type: in force when the agent"), "{said:?}");
        assert!(said[0].contains("hart upgrade-agent demo n1"), "{said:?}");
        assert!(said[1].starts_with("bootstrap.dcs.ttl: of no effect"), "{said:?}");
        // It was not started anew.
        assert_eq!(left_over(&old, &new, &new), said[..1]);
        assert_eq!(left_over(&old, &new, &old), [said[1].clone()]);
        assert_eq!(left_over(&old, &old, &old), [""; 0]);
    }

    #[test]
    fn the_table_names_keys_that_there_are() {
        for (key, _) in TABLE {
            assert!(hart_config::reference().iter().any(|known| known.path == *key), "{key}");
        }
        assert_eq!(needs("postgresql.listen"), Some(Needs::Postgres));
        assert_eq!((needs("postgresql.listener"), needs("log.level")), (None, None));
    }
}
