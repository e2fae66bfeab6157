//! Keys of `bootstrap.dcs`: the settings that all nodes share. [`hart_ha::kv::DynamicConfig`] reads
//! them.

use crate::keys::{KeyDoc, Kind, ignored, key};

const TAKEOVER: Kind = Kind::Words(&["wait", "revoke"]);

const SYNCHRONOUS: Kind = Kind::Words(&["on", "off", "quorum"]);

pub(crate) const KEYS: &[KeyDoc] = &[
    key(
        "bootstrap.dcs",
        Kind::Section,
        "Settings that all nodes share; later changes go to Consul.",
    ),
    key("bootstrap.dcs.ttl", Kind::Seconds, "How long a lease lasts; 2 to 30.").default("6"),
    key("bootstrap.dcs.loop_wait", Kind::Seconds, "Longest pause between two looks.").default("2"),
    key(
        "bootstrap.dcs.retry_timeout",
        Kind::Seconds,
        "Patroni's: hart asks Consul again for as long as the ttl leaves time.",
    )
    .unused(),
    key("bootstrap.dcs.maximum_lag_on_failover", Kind::Whole, "Bytes a candidate may be behind.")
        .default("1048576"),
    key(
        "bootstrap.dcs.primary_start_timeout",
        Kind::Seconds,
        "How long a primary may take to start, also after a crash, before another node is preferred; 0: one \
         that has crashed is not started again where another node may lead.",
    )
    .default("300"),
    key("bootstrap.dcs.master_start_timeout", Kind::Seconds, "Old name of primary_start_timeout."),
    key(
        "bootstrap.dcs.primary_stop_timeout",
        Kind::Seconds,
        "How long an orderly stop waits for the shutdown checkpoint before it becomes an immediate \
         one; 0: postgresql.pg_ctl_timeout. A fence never waits.",
    )
    .default("0"),
    key("bootstrap.dcs.master_stop_timeout", Kind::Seconds, "Old name of primary_stop_timeout."),
    key(
        "bootstrap.dcs.takeover",
        TAKEOVER,
        "What happens to the lease of a leader that is silent. wait: another node leads when it has run out. \
         revoke: in synchronous mode a standby that commits wait for takes it before, when no renewal, no \
         answer over REST and no WAL come from the leader; asynchronous clusters wait. Sessions with \
         synchronous_commit off or local can lose more: see safety.md.",
    )
    .default("wait"),
    key(
        "bootstrap.dcs.suspect_after",
        Kind::Seconds,
        "With takeover revoke: how long a leader is silent before its lease is taken; 0.5 to 30, and never \
         before a renewal is 0.25 s late (they come every ttl/4, loop_wait at the most).",
    )
    .default("1"),
    key("bootstrap.dcs.failsafe_mode", Kind::Flag, "Go on writing without Consul while all agree.")
        .default("true"),
    key("bootstrap.dcs.pause", Kind::Flag, "Maintenance: nobody takes over by itself, what people stop, start or promote by hand is left alone, and an agent that is stopped leaves PostgreSQL running.").default("false"),
    key("bootstrap.dcs.synchronous_mode", SYNCHRONOUS, "Commits wait for standbys.").default("off"),
    key("bootstrap.dcs.synchronous_mode_strict", Kind::Flag, "Never fall back to asynchronous.")
        .default("false"),
    key("bootstrap.dcs.synchronous_node_count", Kind::Whole, "Number of synchronous standbys.")
        .default("1"),
    key(
        "bootstrap.dcs.maximum_lag_on_syncnode",
        Kind::Limit,
        "Bytes that a synchronous standby may be behind the others (or the primary, where it is \
         alone) before it stops being one, in what synchronous_commit waits for (replayed with \
         remote_apply, written with remote_write, else flushed); -1: no limit.",
    )
    .default("-1"),
    key(
        "bootstrap.dcs.unhealthy_timeout",
        Kind::Seconds,
        "How long a primary may take no connections, or have no disk to write to, before a healthy \
         node takes over; 0: for ever. In synchronous mode, where that node has everything, 3 s if nothing \
         is given, and 2 s at least; else twice the ttl, at least 10 s, and one ttl at least.",
    ),
    key(
        "bootstrap.dcs.member_slots_ttl",
        Kind::Seconds,
        "How long the slot of a member that is away is kept.",
    )
    .default("30min"),
    key(
        "bootstrap.dcs.slots",
        Kind::Map,
        "Permanent replication slots, by name: `type: physical`, or `type: logical` with `database` and `plugin`. They are \
         made where they are missing and kept when the leader changes; logical ones are brought to the replicas from \
         PostgreSQL 17 on. One that is taken out here is dropped. See slots.md.",
    ),
    key("bootstrap.dcs.permanent_slots", Kind::Map, "Older name of slots."),
    key("bootstrap.dcs.permanent_replication_slots", Kind::Map, "Older name of slots."),
    key(
        "bootstrap.dcs.ignore_slots",
        Kind::Maps,
        "Slots that are left alone, each by some of `name`, `type`, `database` and `plugin`.",
    ),
    key("bootstrap.dcs.postgresql", Kind::Section, "PostgreSQL's part."),
    key(
        "bootstrap.dcs.postgresql.use_pg_rewind",
        Kind::Flag,
        "Repair diverged nodes by pg_rewind.",
    )
    .default("false"),
    key("bootstrap.dcs.postgresql.use_slots", Kind::Flag, "Keep a slot for every member.")
        .default("true"),
    key("bootstrap.dcs.postgresql.parameters", Kind::Map, "Server parameters."),
    key("bootstrap.dcs.postgresql.pg_hba", Kind::List, "Lines of pg_hba.conf."),
    key("bootstrap.dcs.postgresql.pg_ident", Kind::List, "Lines of pg_ident.conf."),
    ignored("bootstrap.dcs.postgresql.rewind"),
    ignored("bootstrap.dcs.postgresql.recovery_conf"),
    ignored("bootstrap.dcs.postgresql.parameters_primary"),
    ignored("bootstrap.dcs.postgresql.parameters_replica"),
    ignored("bootstrap.dcs.postgresql.parameters_standby_leader"),
    ignored("bootstrap.dcs.postgresql.pg_hba_primary"),
    ignored("bootstrap.dcs.postgresql.pg_hba_replica"),
    ignored("bootstrap.dcs.postgresql.pg_hba_standby_leader"),
    ignored("bootstrap.dcs.postgresql.pg_ident_primary"),
    ignored("bootstrap.dcs.postgresql.pg_ident_replica"),
    ignored("bootstrap.dcs.postgresql.pg_ident_standby_leader"),
    ignored("bootstrap.dcs.max_timelines_history"),
    ignored("bootstrap.dcs.primary_race_backoff"),
    ignored("bootstrap.dcs.check_timeline"),
    ignored("bootstrap.dcs.standby_cluster"),
];
