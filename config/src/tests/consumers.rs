//! A key that hart is said to act on is read by something that acts on it. Reading it into the
//! configuration is not enough: that is how a setting comes to be accepted and ignored.

use std::path::Path;

use crate::{Kind, Support, reference};

/// Keys (one, or all below a section), the file that acts on them, and what stands there.
const CONSUMERS: &[(&str, &str, &str)] = &[
    ("scope", "agent/src/node/settings.rs", "config.scope"),
    ("name", "agent/src/node/settings.rs", "config.name"),
    ("namespace", "agent/src/node/assemble.rs", "config.kv_prefix()"),
    ("state_dir", "agent/src/node/state_dir.rs", "config.state_dir"),
    ("profile", "config/src/sections/bootstrap.rs", "profile.timing()"),
    ("restapi.listen", "agent/src/node/start.rs", "config.restapi.listen"),
    ("restapi.connect_address", "agent/src/node/settings.rs", "config.restapi.url("),
    ("restapi.authentication.", "agent/src/node/asks.rs", "restapi.authentication"),
    ("restapi.auth", "config/src/sections/restapi.rs", "\"auth\""),
    ("restapi.certfile", "agent/src/node/tls.rs", "api.certfile"),
    ("restapi.keyfile", "agent/src/node/tls.rs", "api.keyfile.clone()"),
    ("restapi.keyfile_password", "agent/src/node/tls.rs", "api.keyfile_password"),
    ("restapi.cafile", "agent/src/node/tls.rs", "api.cafile"),
    ("restapi.verify_client", "agent/src/node/tls.rs", "VerifyClient::Optional"),
    ("restapi.ciphers", "agent/src/node/tls.rs", "api.ciphers"),
    ("restapi.open", "agent/src/api/access.rs", "restapi.open"),
    ("restapi.allowlist", "agent/src/api/access.rs", "restapi.allowlist"),
    ("restapi.allowlist_include_members", "agent/src/api/access.rs", "restapi.allowlist_include"),
    ("restapi.http_extra_headers", "agent/src/api/route.rs", "api.http_extra_headers"),
    ("restapi.https_extra_headers", "agent/src/api/route.rs", "api.https_extra_headers"),
    ("ctl.insecure", "agent/src/node/tls.rs", "ctl.insecure"),
    ("ctl.cacert", "agent/src/node/tls.rs", "ctl.cacert"),
    ("ctl.certfile", "agent/src/node/tls.rs", "ctl.certfile"),
    ("ctl.keyfile", "agent/src/node/tls.rs", "ctl.keyfile.clone()"),
    ("ctl.keyfile_password", "agent/src/node/tls.rs", "ctl.keyfile_password"),
    ("ctl.authentication.", "agent/src/cli/rest.rs", "authentication"),
    ("consul.host", "config/src/sections/consul.rs", "\"host\""),
    ("consul.port", "config/src/sections/consul.rs", "\"port\""),
    ("consul.scheme", "config/src/sections/consul.rs", "\"scheme\""),
    ("consul.url", "config/src/sections/consul.rs", "\"url\""),
    ("consul.hosts", "agent/src/node/settings.rs", "consul.endpoints"),
    ("consul.token", "agent/src/node/settings.rs", "ConsulToken::Value"),
    ("consul.token_file", "agent/src/node/settings.rs", "ConsulToken::File"),
    ("consul.verify", "agent/src/node/settings.rs", "consul.verify"),
    ("consul.cacert", "agent/src/node/settings.rs", "consul.cacert"),
    ("consul.cert", "agent/src/node/settings.rs", "consul.cert"),
    ("consul.key", "agent/src/node/settings.rs", "consul.key"),
    ("consul.dc", "agent/src/node/settings.rs", "consul.dc"),
    ("consul.checks", "agent/src/node/assemble.rs", "consul.checks"),
    ("consul.register_service", "agent/src/node/beside.rs", "consul.register_service"),
    ("consul.service_tags", "agent/src/node/services.rs", "consul.service_tags"),
    ("consul.service_check_interval", "agent/src/node/services.rs", "service_check_interval"),
    ("consul.service_check_tls_server_name", "agent/src/node/services.rs", "service_check_tls_"),
    ("bootstrap.method", "agent/src/node/settings.rs", "bootstrap.custom"),
    ("bootstrap.post_bootstrap", "agent/src/node/settings.rs", "bootstrap.post_bootstrap"),
    ("bootstrap.post_init", "config/src/sections/bootstrap.rs", "\"post_init\""),
    ("hooks.post_bootstrap_timeout", "agent/src/node/settings.rs", "hooks.post_bootstrap_timeout"),
    ("hooks.restore_timeout", "agent/src/node/settings.rs", "hooks.restore_timeout"),
    ("bootstrap.initdb", "agent/src/node/settings.rs", "config.bootstrap.initdb"),
    ("bootstrap.pg_hba", "agent/src/node/settings.rs", "config.bootstrap.pg_hba"),
    ("bootstrap.dcs.takeover", "ha/src/brain/revoke.rs", "config.takeover"),
    ("bootstrap.dcs.suspect_after", "ha/src/brain/revoke.rs", "config.suspect_after"),
    ("bootstrap.dcs.ttl", "ha/src/brain/race.rs", "config.ttl"),
    ("bootstrap.dcs.loop_wait", "ha/src/brain/turn.rs", "config.loop_wait"),
    (
        "bootstrap.dcs.maximum_lag_on_failover",
        "ha/src/brain/eligible.rs",
        "maximum_lag_on_failover",
    ),
    ("bootstrap.dcs.primary_start_timeout", "ha/src/brain/lead.rs", "primary_start_timeout"),
    ("bootstrap.dcs.master_start_timeout", "ha/src/kv/config.rs", "\"master_start_timeout\""),
    ("bootstrap.dcs.primary_stop_timeout", "agent/src/node/execute.rs", "primary_stop_timeout"),
    ("bootstrap.dcs.master_stop_timeout", "ha/src/kv/config.rs", "\"master_stop_timeout\""),
    ("bootstrap.dcs.failsafe_mode", "ha/src/brain/failsafe.rs", "config.failsafe_mode"),
    ("bootstrap.dcs.pause", "ha/src/brain/race.rs", "config.pause"),
    ("bootstrap.dcs.synchronous_mode", "ha/src/brain/sync/vote.rs", "config.synchronous_mode"),
    (
        "bootstrap.dcs.synchronous_mode_strict",
        "ha/src/brain/sync/mod.rs",
        "synchronous_mode_strict",
    ),
    ("bootstrap.dcs.synchronous_node_count", "ha/src/brain/sync/mod.rs", "synchronous_node_count"),
    (
        "bootstrap.dcs.maximum_lag_on_syncnode",
        "ha/src/brain/sync/mod.rs",
        "maximum_lag_on_syncnode",
    ),
    ("bootstrap.dcs.unhealthy_timeout", "ha/src/brain/sick/promotion.rs", "unhealthy_timeout"),
    ("bootstrap.dcs.member_slots_ttl", "ha/src/brain/slots.rs", "config.member_slots_ttl"),
    ("bootstrap.dcs.slots", "ha/src/kv/slots.rs", "\"slots\"]"),
    ("bootstrap.dcs.permanent_slots", "ha/src/kv/slots.rs", "\"permanent_slots\""),
    (
        "bootstrap.dcs.permanent_replication_slots",
        "ha/src/kv/slots.rs",
        "\"permanent_replication_slots\"",
    ),
    ("bootstrap.dcs.ignore_slots", "ha/src/kv/slots.rs", "\"ignore_slots\""),
    ("bootstrap.dcs.postgresql.use_pg_rewind", "config/src/effective.rs", "shared.use_pg_rewind"),
    ("bootstrap.dcs.postgresql.use_slots", "config/src/effective.rs", "shared.use_slots"),
    ("bootstrap.dcs.postgresql.parameters", "config/src/effective.rs", "shared.parameters"),
    ("bootstrap.dcs.postgresql.pg_hba", "config/src/effective.rs", "shared.pg_hba"),
    ("bootstrap.dcs.postgresql.pg_ident", "config/src/effective.rs", "shared.pg_ident"),
    ("postgresql.listen", "agent/src/node/settings.rs", "file.listen.port"),
    ("postgresql.connect_address", "agent/src/node/settings.rs", "postgresql.connect_address"),
    ("postgresql.proxy_address", "agent/src/node/agent.rs", "postgresql.proxy_address"),
    ("postgresql.data_dir", "agent/src/node/settings.rs", "file.data_dir"),
    ("postgresql.config_dir", "agent/src/node/settings.rs", "file.config_dir"),
    ("postgresql.bin_dir", "agent/src/node/settings.rs", "file.bin_dir"),
    ("postgresql.bin_name.initdb", "postgres/src/initdb.rs", "program(&settings, \"initdb\")"),
    ("postgresql.bin_name.pg_controldata", "postgres/src/control.rs", "\"pg_controldata\")"),
    ("postgresql.bin_name.pg_basebackup", "postgres/src/basebackup.rs", "program(&settings, TOOL)"),
    ("postgresql.bin_name.postgres", "postgres/src/launch.rs", "program(&settings, \"postgres\")"),
    ("postgresql.bin_name.pg_rewind", "postgres/src/rewind.rs", "program(&settings, TOOL)"),
    ("postgresql.pgpass", "agent/src/node/settings.rs", "file.pgpass"),
    ("postgresql.parameters", "config/src/effective.rs", "local.parameters"),
    (
        "postgresql.allow_commands_from_dcs",
        "config/src/effective.rs",
        "local.allow_commands_from_dcs",
    ),
    ("postgresql.pg_hba", "config/src/effective.rs", "local.pg_hba"),
    ("postgresql.pg_ident", "config/src/effective.rs", "local.pg_ident"),
    ("postgresql.use_pg_rewind", "config/src/effective.rs", "local.use_pg_rewind"),
    (
        "postgresql.remove_data_directory_on_rewind_failure",
        "agent/src/node/settings.rs",
        "postgresql.remove_data_directory_on_rewind_failure",
    ),
    (
        "postgresql.remove_data_directory_on_diverged_timelines",
        "agent/src/node/settings.rs",
        "postgresql.remove_data_directory_on_diverged_timelines",
    ),
    (
        "postgresql.remove_data_directory_on_missing_wal",
        "agent/src/node/settings.rs",
        "postgresql.remove_data_directory_on_missing_wal",
    ),
    (
        "postgresql.create_replica_methods",
        "agent/src/node/settings.rs",
        "file.create_replica_methods",
    ),
    (
        "postgresql.create_replica_method",
        "config/src/sections/postgresql.rs",
        "\"create_replica_method\"",
    ),
    ("postgresql.recovery_conf", "agent/src/node/settings.rs", "file.recovery_conf"),
    ("postgresql.pre_promote", "agent/src/node/hooks/veto.rs", "postgresql.pre_promote"),
    ("postgresql.before_stop", "agent/src/node/execute.rs", "postgresql.before_stop"),
    ("hooks.pre_promote_timeout", "agent/src/node/hooks/veto.rs", "hooks.pre_promote_timeout"),
    ("hooks.before_stop_timeout", "agent/src/node/execute.rs", "hooks.before_stop_timeout"),
    ("postgresql.basebackup", "agent/src/node/settings.rs", "file.basebackup"),
    ("postgresql.pg_ctl_timeout", "agent/src/node/execute.rs", "postgresql.pg_ctl_timeout"),
    ("postgresql.callbacks.", "agent/src/node/hooks/mod.rs", "postgresql.callbacks"),
    ("hooks.callback_timeout", "agent/src/node/hooks/mod.rs", "hooks.callback_timeout"),
    ("postgresql.custom_conf", "agent/src/node/settings.rs", "file.custom_conf"),
    ("postgresql.authentication.superuser.", "agent/src/node/settings.rs", "accounts.superuser"),
    (
        "postgresql.authentication.replication.",
        "agent/src/node/settings.rs",
        "accounts.replication",
    ),
    ("postgresql.authentication.rewind.", "agent/src/node/settings.rs", "accounts.rewind"),
    ("watchdog.mode", "agent/src/node/unfit.rs", "watchdog.mode"),
    ("watchdog.device", "agent/src/node/unfit.rs", "watchdog.device"),
    ("watchdog.safety_margin", "agent/src/node/unfit.rs", "watchdog.safety_margin"),
    ("watchdog.driver", "agent/src/node/unfit.rs", "watchdog.driver"),
    ("guard.cgroup", "agent/src/node/start.rs", "config.guard.cgroup"),
    ("tags.nofailover", "ha/src/kv/tags.rs", "self.nofailover"),
    ("tags.failover_priority", "ha/src/kv/tags.rs", "self.failover_priority"),
    ("tags.noloadbalance", "agent/src/api/health.rs", "tags.noloadbalance"),
    ("tags.nosync", "ha/src/brain/sync/mod.rs", "tags.nosync"),
    ("tags.sync_priority", "ha/src/brain/sync/mod.rs", "tags.sync_priority"),
    ("log.type", "agent/src/node/logging.rs", "config.kind"),
    ("log.level", "agent/src/node/logging.rs", "config.level"),
    ("log.dir", "agent/src/node/logging.rs", "config.dir"),
    ("log.file_num", "agent/src/node/logging.rs", "config.file_num"),
    ("log.file_size", "agent/src/node/logging.rs", "config.file_size"),
    ("log.mode", "agent/src/node/logging.rs", "config.mode"),
    ("log.static_fields", "agent/src/node/logging.rs", "config.static_fields"),
    ("dns.zone", "agent/src/dns/options.rs", "dns.zone"),
    ("dns.listen", "agent/src/dns/inside.rs", "dns.listen"),
    ("dns.record_ttl", "agent/src/dns/options.rs", "dns.ttl"),
    ("dns.replica_fallback", "agent/src/dns/options.rs", "dns.replica_fallback"),
    ("dns.max_lag", "agent/src/dns/options.rs", "dns.max_lag"),
    ("dns.proxies", "agent/src/dns/options.rs", "dns.proxies"),
    ("dns.nameservers", "agent/src/dns/options.rs", "dns.nameservers"),
    ("dns.forward", "agent/src/dns/options.rs", "dns.forward"),
    ("dns.query_log", "agent/src/dns/options.rs", "dns.query_log"),
    ("vip.interface", "agent/src/vip/officer.rs", "vip.interface"),
    ("vip.addresses", "agent/src/vip/officer.rs", "vip.addresses"),
    ("vip.replica_addresses", "agent/src/vip/plan.rs", "vip.replica_addresses"),
    ("vip.conflict", "agent/src/vip/officer.rs", "vip.conflict"),
    ("pgbouncer.poolers", "agent/src/bouncer/officer.rs", ".poolers"),
    ("pgbouncer.user", "agent/src/bouncer/admin.rs", "config.user"),
    ("pgbouncer.password", "agent/src/bouncer/admin.rs", "config.password"),
    ("pgbouncer.password_file", "agent/src/bouncer/admin.rs", "config.password_file"),
    ("pgbouncer.databases", "agent/src/bouncer/databases.rs", "pgbouncer.databases"),
    ("pgbouncer.databases_file", "agent/src/bouncer/databases.rs", "pgbouncer.databases_file"),
    ("pgbouncer.databases_template", "agent/src/bouncer/databases.rs", "pgbouncer.databases_templ"),
    ("pgbouncer.pause_timeout", "agent/src/bouncer/officer.rs", "config.pause_timeout"),
    ("pgbouncer.max_pause", "agent/src/bouncer/officer.rs", "config.max_pause"),
];

/// A file of the repository without its tests and its comments, and without blanks.
fn product(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    // The table of keys is no consumer of them.
    let lines = lines.filter(|line| !line.contains("key(\""));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn every_key_that_hart_acts_on_has_something_that_acts() {
    let below =
        |path: &str, keys: &str| path == keys || keys.ends_with('.') && path.starts_with(keys);
    let mut missing = Vec::new();
    for key in reference() {
        if key.support != Support::Yes || key.kind == Kind::Section {
            continue;
        }
        let Some((_, file, text)) = CONSUMERS.iter().find(|(keys, ..)| below(key.path, keys))
        else {
            missing.push(format!("{}: nothing is named here that acts on it", key.path));
            continue;
        };
        let words: String = text.split_whitespace().collect();
        if !product(file).contains(&words) {
            missing.push(format!("{}: {file} has no {text:?} any more", key.path));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn nothing_is_named_for_a_key_that_is_gone_or_without_effect() {
    for (keys, ..) in CONSUMERS {
        let acts = |key: &&crate::KeyDoc| key.support == Support::Yes;
        let section = keys.trim_end_matches('.');
        let known = reference().iter().filter(acts).any(|key| key.path == section);
        assert!(known, "{keys}");
    }
}
