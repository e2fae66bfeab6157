//! The page of what is stored in Consul.

use hart_ha::kv::KEYS;

use super::markdown::{code, table, title};

pub(super) fn page() -> String {
    let rows = KEYS.iter().map(|(key, value, by)| [code(key), (*value).into(), (*by).into()]);
    format!(
        "{}\nBelow `<namespace>/<scope>/`, by default `service/<scope>/`. The layout is Patroni's, so \
         that `patronictl` and other tools read it. JSON objects may have further fields, which are \
         kept or passed over. \"Locked\" means by a Consul session, with which the key vanishes.\n{}",
        title("Keys in Consul", "`ha/src/kv/keys.rs`"),
        table(["Key", "Value", "Written by"], rows)
    )
}

#[cfg(test)]
mod tests {
    use hart_ha::kv::{
        Change, FailoverRequest, Lease, LeaseState, Member, Status, SyncState, Tags,
    };
    use hart_ha::lsn::Lsn;
    use hart_ha::store::{RawEntry, Snapshot};
    use serde_json::{Value, json};

    use super::*;

    fn read(value: impl Fn(&str) -> Vec<u8>) -> (Snapshot, Vec<String>) {
        let entries: Vec<_> =
            KEYS.iter().map(|(key, ..)| (key.replace("<name>", "n1"), value(key))).collect();
        let (snapshot, problems) = Snapshot::read(entries.iter().map(|(key, value)| RawEntry {
            key,
            value,
            index: 1,
            session: None,
        }));
        (snapshot, problems.into_iter().map(|problem| problem.key).collect())
    }

    #[test]
    fn every_documented_key_is_read() {
        let (_, unreadable) = read(|_| b"\xff".to_vec());
        // Members do not read the key of `hart roll`.
        let keys = KEYS.iter().filter(|(key, ..)| *key != "roll");
        let keys: Vec<_> = keys.map(|(key, ..)| key.replace("<name>", "n1")).collect();
        assert_eq!(unreadable, keys, "only keys that are read can be unreadable");
    }

    #[test]
    fn every_key_that_is_read_is_documented() {
        let (snapshot, problems) = read(|key| match key {
            "initialize" | "leader" => b"n1".to_vec(),
            "history" => b"[]".to_vec(),
            _ => b"{}".to_vec(),
        });
        assert_eq!(problems, [""; 0]);
        // A new key in the snapshot does not compile here before it is added below.
        let Snapshot {
            initialize,
            config,
            leader,
            status,
            members,
            failover,
            sync,
            history,
            failsafe,
            config_unreadable: _,
        } = snapshot;
        assert!(initialize.is_some() && config.is_some() && leader.is_some());
        assert!(status.is_some() && failover.is_some() && sync.is_some());
        assert!(history.is_some() && failsafe.is_some());
        assert_eq!(members.len(), 1);
    }

    #[test]
    fn every_field_is_documented() {
        for (key, value) in [
            ("status", status()),
            ("status", json!(lease())),
            ("members/<name>", member()),
            ("failover", failover()),
            ("sync", json!(SyncState { replaces: 1, ..SyncState::default() })),
        ] {
            let text = KEYS.iter().find(|row| row.0 == key).unwrap().1;
            for field in value.as_object().unwrap().keys() {
                assert!(text.contains(&code(field)), "{key}: {field}");
            }
        }
    }

    // All fields are given, so that a new one has to be added here.

    fn lease() -> Lease {
        let (holder, instance, from) = ("n1".into(), "i".into(), Some("n2".into()));
        Lease {
            holder,
            instance,
            term: 1,
            ttl_ms: 1,
            beat: 1,
            state: LeaseState::Held,
            from,
            open: true,
            revocable: true,
            revoked_ms: Some(1),
        }
    }

    fn status() -> Value {
        json!(Status {
            optime: Some(Lsn(1)),
            slots: [("s".into(), 1)].into(),
            retain_slots: vec!["s".into()],
            lease: Some(lease()),
            other: serde_json::Map::new(),
        })
    }

    fn failover() -> Value {
        let (leader, member) = (Some("n1".into()), Some("n2".into()));
        json!(FailoverRequest {
            leader,
            member,
            scheduled_at: Some("t".into()),
            fenced: Some("f".into())
        })
    }

    fn member() -> Value {
        json!(Member {
            conn_url: "c".into(),
            api_url: "a".into(),
            state: "running".to_owned().into(),
            role: "replica".to_owned().into(),
            version: "4".into(),
            tags: Tags { nosync: true, ..Tags::default() },
            pending_restart: true,
            scheduled_restart: Some(serde_json::Map::new()),
            pause: true,
            pending_restart_reason: [("p".into(), Change::default())].into(),
            proxy_url: Some("u".into()),
            xlog_location: Some(Lsn(1)),
            receive_lsn: Some(Lsn(1)),
            replay_lsn: Some(Lsn(1)),
            replication_state: Some("streaming".into()),
            timeline: Some(1),
            timeline_terms: [(1, 1)].into(),
            to_be_copied: true,
            problem: Some("p".into()),
            instance: "i".into(),
            pause_ms: 1,
            hart: "h".into(),
        })
    }
}
