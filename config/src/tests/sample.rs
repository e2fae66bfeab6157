use std::path::PathBuf;
use std::time::Duration;

use hart_ha::kv::Tags;
use serde_json::json;

use super::{LEAST, SAMPLE, with};
use crate::{
    Account, Cgroup, ConsulToken, Listen, LogLevel, Profile, Secret, WatchdogMode, load_text,
};

fn account(username: &str, password: &str) -> Account {
    let password = Some(Secret::new(password));
    Account { username: username.into(), password, ..Account::default() }
}

#[test]
fn the_sample_is_read_exactly_and_without_warnings() {
    let loaded = load_text("n1.yml", SAMPLE, []).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!((config.scope.as_str(), config.name.as_str()), ("ha", "n1"));
    assert_eq!(config.kv_prefix(), "service/ha/");
    assert_eq!(config.restapi.listen.to_string(), "10.0.0.21:8008");
    assert_eq!(config.restapi.url("/patroni"), "http://10.0.0.21:8008/patroni");
    assert_eq!(config.consul.endpoints, ["http://127.0.0.1:8500"]);
    assert!(config.consul.register_service && config.consul.verify);
    assert_eq!(config.consul.token, ConsulToken::None);
    assert_eq!(config.consul.service_check_interval, Duration::from_secs(5));
    assert_eq!(config.watchdog.mode, WatchdogMode::Off);
    assert_eq!(config.watchdog.device, PathBuf::from("/dev/watchdog"));
    assert_eq!((config.watchdog.safety_margin, config.watchdog.driver.as_str()), (None, "default"));
    assert_eq!(config.tags, Tags::default());
    assert_eq!(config.guard.cgroup, Cgroup::Auto);
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.profile, None);
}

#[test]
fn the_samples_postgresql_is_read_exactly() {
    let config = load_text("n1.yml", SAMPLE, []).unwrap().config;
    let postgresql = config.postgresql;
    let hosts = vec!["10.0.0.21".to_owned(), "127.0.0.1".to_owned()];
    assert_eq!(postgresql.listen, Listen { hosts, port: 5432 });
    assert_eq!(postgresql.connect_address.to_string(), "10.0.0.21:5432");
    assert_eq!(postgresql.data_dir, PathBuf::from("/var/lib/hart/n1/data"));
    assert_eq!(postgresql.bin_dir, Some(PathBuf::from("/usr/lib/postgresql/15/bin")));
    assert_eq!(postgresql.pgpass, Some(PathBuf::from("/var/lib/hart/n1/pgpass")));
    let roles = postgresql.authentication;
    assert_eq!(roles.superuser, account("postgres", "postgres"));
    assert_eq!(roles.replication, account("replicator", "rep"));
    assert_eq!(roles.rewind_or_superuser(), &account("rewinder", "rew"));
    let sockets = json!({"unix_socket_directories": "/var/lib/hart/n1"});
    assert_eq!(json!(postgresql.parameters), sockets);
    assert_eq!(postgresql.pg_hba.unwrap()[1], "host all all 0.0.0.0/0 md5");
    assert_eq!(postgresql.pg_ctl_timeout, Duration::from_secs(60));
}

#[test]
fn the_samples_shared_settings_are_stored_as_written() {
    let bootstrap = load_text("n1.yml", SAMPLE, []).unwrap().config.bootstrap;
    let text = r#"{"ttl":5,"loop_wait":1,"maximum_lag_on_failover":1048576,"failsafe_mode":true,"synchronous_mode":false,"postgresql":{"use_pg_rewind":true,"use_slots":true,"parameters":{"max_connections":50,"wal_keep_size":"128MB"}},"retry_timeout":2}"#;
    assert_eq!(serde_json::to_string(&bootstrap.dcs).unwrap(), text);
    assert_eq!(bootstrap.dynamic.ttl, Duration::from_secs(5));
    let initdb =
        [("encoding".to_owned(), Some("UTF8".to_owned())), ("data-checksums".into(), None)];
    assert_eq!(bootstrap.initdb, initdb);
}

#[test]
fn the_least_configuration_has_the_defaults_of_the_table() {
    let config = with("");
    assert_eq!(config.restapi.connect_address.to_string(), "127.0.0.1:8008");
    assert_eq!(config.postgresql.connect_address.to_string(), "127.0.0.1:5432");
    assert_eq!(config.postgresql.authentication.superuser.username, "postgres");
    assert_eq!(config.postgresql.authentication.replication.username, "replicator");
    assert_eq!(config.postgresql.authentication.rewind, None);
    assert_eq!(config.watchdog.mode, WatchdogMode::Automatic);
    let timing = json!({"ttl": 6, "loop_wait": 2, "retry_timeout": 2, "failsafe_mode": true});
    assert_eq!(json!(config.bootstrap.dcs), timing);
    assert_eq!((config.postgresql.bin_dir, config.postgresql.bin_name.len()), (None, 0));
}

#[test]
fn every_key_that_hart_supports_is_read() {
    let root = crate::yaml::parse(&"t".into(), LEAST).unwrap();
    let findings = std::cell::RefCell::default();
    crate::Config::read(&root, &findings);
    let read = findings.into_inner().read;
    for key in crate::reference() {
        // Keys of bootstrap.dcs are read by DynamicConfig, below.
        let elsewhere = key.path.starts_with("bootstrap.dcs.");
        let expected = key.support != crate::Support::No && !elsewhere;
        assert!(!expected || read.iter().any(|path| path == key.path), "{} is not read", key.path);
    }
    for path in read {
        assert!(crate::keys::find(&path).is_some(), "{path} is not in the table");
    }
}

#[test]
fn every_shared_key_of_the_table_is_read() {
    for key in crate::reference() {
        let path = key.path.strip_prefix("bootstrap.dcs.").unwrap_or_default();
        if path.is_empty() || key.support != crate::Support::Yes {
            continue;
        }
        let wrong = path.rsplit('.').fold(json!(["wrong"]), |value, name| {
            if value == json!(["wrong"]) && key.kind == crate::Kind::List {
                return json!({ name: "wrong" });
            }
            json!({ name: value })
        });
        let raw = wrong.as_object().unwrap().clone();
        // Slots that cannot be read are left out; the other settings do not hang on them.
        let error = match hart_ha::kv::DynamicConfig::from_raw(raw) {
            Ok(read) => read.slots.problems.first().cloned().expect(path),
            Err(error) => error,
        };
        assert_eq!(error.field, path);
    }
}

#[test]
fn profiles_set_the_timing_that_the_file_does_not() {
    for (word, profile, ttl) in [
        ("fast", Profile::Fast, 3),
        ("norm", Profile::Norm, 6),
        ("Safe", Profile::Safe, 15),
        ("wide", Profile::Wide, 30),
    ] {
        let config = with(&format!("profile: {word}"));
        assert_eq!(config.profile, Some(profile));
        assert_eq!(config.bootstrap.dynamic.ttl, Duration::from_secs(ttl));
        assert_eq!(config.bootstrap.dynamic.ttl, profile.ttl());
        assert!(profile.loop_wait() + 2 * profile.retry_timeout() <= profile.ttl());
    }
    let config = with("profile: wide\nbootstrap: {dcs: {ttl: 4}}");
    assert_eq!(config.bootstrap.dynamic.ttl, Duration::from_secs(4));
    assert_eq!(config.bootstrap.dynamic.loop_wait, Duration::from_secs(10));
}

#[test]
fn booleans_have_the_words_that_patronis_users_write() {
    for (word, value) in [
        ("on", true),
        ("'yes'", true),
        ("True", true),
        ("1", true),
        ("off", false),
        ("no", false),
        ("\"false\"", false),
        ("0", false),
    ] {
        let config = with(&format!("tags: {{clonefrom: {word}}}"));
        assert_eq!(config.tags.clonefrom, value, "{word}");
    }
    for word in ["off", "false", "no", "'off'", "Off"] {
        assert_eq!(with(&format!("watchdog: {{mode: {word}}}")).watchdog.mode, WatchdogMode::Off);
    }
    for (given, margin) in [("-1", Duration::MAX), ("5", Duration::from_secs(5))] {
        let text = format!("watchdog: {{mode: required, driver: testing, safety_margin: {given}}}");
        let watchdog = with(&text).watchdog;
        assert_eq!((watchdog.safety_margin, watchdog.driver.as_str()), (Some(margin), "testing"));
    }
    let dcs = with("bootstrap: {dcs: {synchronous_mode: on, pause: no}}").bootstrap.dcs;
    assert_eq!((&dcs["synchronous_mode"], &dcs["pause"]), (&json!(true), &json!(false)));
}

#[test]
fn names_are_text_whatever_yaml_would_make_of_them() {
    assert_eq!(with("name: no").name, "no");
    assert_eq!(with("scope: 007").scope, "007");
    assert_eq!(with("namespace: /db/prod/").kv_prefix(), "db/prod/ha/");
    assert_eq!(with("namespace: /").kv_prefix(), "ha/");
}

#[test]
fn numbers_may_be_quoted() {
    let config = with("consul: {host: c, port: '8501', service_check_interval: '2.5'}");
    assert_eq!(config.consul.endpoints, ["http://c:8501"]);
    assert_eq!(config.consul.service_check_interval, Duration::from_millis(2500));
}

#[test]
fn consul_has_several_endpoints_and_kinds_of_token() {
    let config = with("consul: {hosts: [a, 'b:80', 'https://c:8501'], host: z, token: t}");
    assert_eq!(config.consul.endpoints, ["http://a:8500", "http://b:80", "https://c:8501"]);
    assert_eq!(config.consul.token, ConsulToken::Value(Secret::new("t")));
    let config = with("consul: {url: 'https://c:8501/', token_file: /run/token}");
    assert_eq!(config.consul.endpoints, ["https://c:8501"]);
    assert_eq!(config.consul.token, ConsulToken::File("/run/token".into()));
}

#[test]
fn tags_are_kept_whether_known_or_not() {
    let tags = with("tags: {failover_priority: '2', datacenter: b, replicatefrom: n2}").tags;
    assert_eq!(tags.failover_priority, Some(2));
    assert_eq!(tags.replicatefrom.as_deref(), Some("n2"));
    let shown = json!({"failover_priority": "2", "datacenter": "b", "replicatefrom": "n2"});
    assert_eq!(json!(tags), shown, "as they were written");
}

/// As with Patroni: who writes `nofailover: false` beside a priority of 0 lets the node lead.
#[test]
fn a_plain_no_wins_over_a_priority() {
    let allowed = with("tags: {nofailover: false, failover_priority: 0}").tags;
    assert!(allowed.may_fail_over() && allowed.failover_priority.is_none(), "{allowed:?}");
    let allowed = with("tags: {nosync: false, sync_priority: 0}").tags;
    assert_eq!((allowed.nosync, allowed.sync_priority), (false, None));
    assert!(!with("tags: {failover_priority: 0}").tags.may_fail_over());
    assert!(!with("tags: {nofailover: true, failover_priority: 5}").tags.may_fail_over());
}

#[test]
fn secrets_are_never_shown() {
    let text = format!("{SAMPLE}pgbouncer: {{poolers: ['a:1'], password: hush}}\n");
    let text =
        text.replace("password: rep", "password: hush").replace("password: rew", "password: hush");
    let text = text.replace("postgres, password: postgres", "postgres, password: hush");
    let text = text.replace("register_service", "token: hush, register_service");
    let loaded = load_text("n1.yml", &text, []).unwrap();
    assert_eq!(
        loaded.config.postgresql.authentication.superuser.password.as_ref().unwrap().expose(),
        "hush"
    );
    let shown = loaded.config.redacted_json();
    assert_eq!(shown["consul"]["token"], "***");
    assert_eq!(shown["consul"]["host"], "127.0.0.1:8500");
    assert_eq!(shown["pgbouncer"], json!({"poolers": ["a:1"], "password": "***"}));
    assert!(!shown.to_string().contains("hush"), "{shown}");
    assert!(!format!("{loaded:?}").contains("hush"), "{loaded:?}");
}

/// People copy it.
#[test]
fn the_readmes_example_leaves_no_door_open() {
    let readme = include_str!("../../../README.md");
    let text = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let missing = load_text("n1.yml", text, []).unwrap_err().to_string();
    assert!(missing.contains("restapi.authentication.password"), "{missing}");
    let secrets = ["RESTAPI", "SUPERUSER", "REPLICATION", "REWIND"]
        .map(|who| (format!("HART_{who}_PASSWORD"), format!("of {who}")));
    for (name, _) in &secrets {
        assert!(readme.contains(name.as_str()), "{name}");
    }
    let loaded = load_text("n1.yml", text, secrets).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert!(config.restapi.is_guarded() && !config.restapi.open);
    assert_eq!(config.postgresql.authentication.superuser, account("postgres", "of SUPERUSER"));
    for line in config.postgresql.pg_hba.unwrap() {
        assert!(!line.contains("trust") && !line.contains("0.0.0.0/0"), "{line}");
    }
}
