//! The keys, one by one.

/// Every key below `<namespace>/<scope>/`: its name, what its value is, and who writes it. The
/// reference page is made from this table.
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "initialize",
        "System identifier, plain text; empty, and locked by the session, while a node bootstraps.",
        "the bootstrapping node; the leader where it does not name the cluster",
    ),
    (
        "config",
        "JSON object: the settings that all nodes share, with the keys of `bootstrap.dcs`.",
        "the leader where there is none; `PATCH /config` and `PUT /config`",
    ),
    (
        "leader",
        "Member name, plain text, locked by the holder's session: who leads.",
        "lease transactions only",
    ),
    (
        "status",
        "JSON object: `optime` (the primary's last known write position, bytes), `slots` and \
         `retain_slots` as Patroni has them, and hart's `lease`, which says until when somebody \
         leads: `holder` (member name), `instance` (identity of the holder's installation), `term` \
         (number of the reign; never falls), `ttl_ms` (how long a beat lasts), `beat` (grows with \
         every renewal), `state` (`held` or `released`), `from` (who handed the lease over, until \
         the heir has renewed it), `open` (in a pause: it has no end, and nobody takes it over by waiting), `revocable` (with \
         `takeover: revoke`: a published standby may take it before it is over), `revoked_ms` (it was taken so, \
         and for so long the former holder's lease lasted; gone when that one's time is over).",
        "lease transactions only",
    ),
    (
        "members/<name>",
        "JSON object, locked by the member's session. Patroni's fields: `conn_url`, `api_url`, \
         `proxy_url`, `state`, `role`, `version`, `tags`, `pending_restart`, `pending_restart_reason` (by \
         parameter: `old_value`, `new_value`), `scheduled_restart` (`schedule`, its conditions), `pause` (the \
         node has seen it), `xlog_location`, `receive_lsn` and \
         `replay_lsn` (bytes), `replication_state`, `timeline`. hart's: `timeline_terms` \
         (the terms in which the timeline and its ancestors began, by timeline), `instance` \
         (identity of the installation), `to_be_copied` (its data is to be thrown away and copied anew), \
         `problem` (what is wrong on this node), `pause_ms` (how long its PgBouncers may take to pause), \
         `hart` (the agent's version).",
        "each node its own",
    ),
    (
        "failover",
        "JSON object: what an operator asked for. `leader` (who is to give way; a switchover names \
         it), `member` (the candidate; without it the best one), `scheduled_at` (RFC 3339 with an offset; taken out when it is due). \
         hart's: `fenced` (the holder of a lease without an end of which a person says that it is gone). `{}` \
         when there is nothing to do.",
        "REST and command line; cleared by the leader",
    ),
    (
        "sync",
        "JSON object: who holds every acknowledged commit. `leader` (the primary that wrote this), \
         `quorum` (0 unless `synchronous_mode: quorum`), `sync_standby` (names, separated by commas). \
         hart's: `replaces` (the version that this state replaced).",
        "the leader",
    ),
    (
        "roll",
        "JSON object, locked by the session of a `hart roll` that is under way: `by` (user, host and process), `since` \
         (RFC 3339), `work` (its options), `started` (with `--all`: when each member's PostgreSQL had been started before). \
         Without a lock it was broken off.",
        "`hart roll`, which deletes it at its end",
    ),
    (
        "history",
        "JSON list of the ends of all timelines, oldest first: `[timeline, LSN in bytes, PostgreSQL's \
         reason, RFC 3339 time, who leads the next one]`.",
        "the leader after a promotion",
    ),
    (
        "failsafe",
        "JSON object: REST address by member name; whom a leader asks that is cut off from Consul.",
        "the leader",
    ),
];
