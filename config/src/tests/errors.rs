use super::{error, try_with};
use crate::{Error, load_text};

#[test]
fn wrong_types_name_file_line_field_and_what_was_expected() {
    assert_eq!(
        error("consul: {port: abc}"),
        "n1.yml:1:16: consul.port: expected a whole number, found \"abc\"\n  \
         hint: write a whole number without a unit"
    );
    assert_eq!(
        error("tags:\n  nofailover: [1]"),
        "n1.yml:2:15: tags.nofailover: expected true or false, found a list\n  \
         hint: write true or false; on, off, yes and no are read too"
    );
    assert_eq!(
        error("postgresql: {listen: 'a:1', data_dir: /d, pg_hba: local all all trust}"),
        "n1.yml:1:51: postgresql.pg_hba: expected a list of texts, found \"local all all trust\"\n  \
         hint: write a list: one \"- item\" per line, or [a, b]"
    );
    assert_eq!(
        error("postgresql: {listen: 'a:1', data_dir: /d, pg_ctl_timeout: soon}"),
        "n1.yml:1:59: postgresql.pg_ctl_timeout: expected a number of seconds, found \"soon\"\n  \
         hint: write seconds as a number, such as 10 or 0.5"
    );
    assert_eq!(
        error("log: debug"),
        "n1.yml:1:6: log: expected keys and values, found a single value\n  \
         hint: put its keys on the following lines, indented"
    );
    assert_eq!(
        error("bootstrap: {initdb: [{encoding: [UTF8]}]}"),
        "n1.yml:1:33: bootstrap.initdb: expected one value for \"encoding\", found a list\n  \
         hint: write a list such as [{encoding: UTF8}, data-checksums]"
    );
}

#[test]
fn wrong_values_say_what_is_allowed() {
    assert_eq!(
        error("restapi: {listen: 10.0.0.21}"),
        "n1.yml:1:19: restapi.listen: expected host:port, found \"10.0.0.21\": the port is missing\n  \
         hint: write host and port, such as 10.0.0.21:8008 or [fd00::1]:8008"
    );
    assert_eq!(
        error("postgresql: {listen: 'a,b:0', data_dir: /d}"),
        "n1.yml:1:22: postgresql.listen: expected addresses and a port, found \"a,b:0\": the port is \
         not a number from 1 to 65535\n  \
         hint: write addresses and one port, such as 10.0.0.21,127.0.0.1:5432"
    );
    assert_eq!(
        error("profile: turbo"),
        "n1.yml:1:10: profile: expected one of fast, norm, safe, wide, found \"turbo\"\n  \
         hint: write fast or norm or safe or wide"
    );
    assert_eq!(
        error("scope: a/b"),
        "n1.yml:1:8: scope: expected a name, found '/' in it\n  \
         hint: use letters, digits, dots, dashes and underscores"
    );
    assert_eq!(
        error("name: ''"),
        "n1.yml:1:7: name: expected a name, found an empty one\n  \
         hint: use letters, digits, dots, dashes and underscores"
    );
    let nobody = hart_ha::waits::NOBODY.to_uppercase();
    assert!(error(&format!("name: {nobody}")).contains("made to wait for nobody"));
    assert!(error(&format!("name: {}", "n".repeat(64))).contains("up to 63 bytes, found 64 bytes"));
    assert!(error("namespace: /a//b").contains("n1.yml:1:12: namespace: expected a folder"));
    assert!(error("consul: {url: 'ftp://c'}").contains("consul.url: expected host, host:port"));
    assert!(
        error("restapi: {listen: 'a:1', connect_address: '*:1'}")
            .contains("one address that others")
    );
    assert!(error("consul: {port: 0}").contains("consul.port: expected a whole number, found 0"));
    assert!(error("tags: {replicatefrom: n1}").contains("expected another member, found \"n1\""));
    assert!(error("consul: {token: a, token_file: /b}").contains("keep one of the two"));
    assert!(error("restapi: {listen: 'a:1', keyfile: /k}").contains("give restapi.certfile"));
}

#[test]
fn shared_settings_are_checked_with_their_places() {
    let text = "bootstrap:\n  dcs:\n    ttl: soon\n    postgresql:\n      use_slots: 7\n";
    assert_eq!(
        error(text),
        "n1.yml:3:10: bootstrap.dcs.ttl: expected a number of seconds, found \"soon\"\n  \
         hint: write seconds as a number, such as 10 or 0.5\n\
         n1.yml:5:18: bootstrap.dcs.postgresql.use_slots: expected true or false, found 7\n  \
         hint: write true or false; on, off, yes and no are read too"
    );
}

#[test]
fn another_beginning_than_was_asked_for_is_refused() {
    assert!(error("bootstrap: {method: wal_g}").contains("bootstrap.method: expected initdb"));
    let text = "bootstrap: {dcs: {standby_cluster: {host: h}}}";
    assert!(
        error(text).contains("bootstrap.dcs.standby_cluster: hart does not run standby clusters")
    );
}

#[test]
fn everything_missing_is_named_at_once_and_a_misspelt_key_beside_it() {
    let text = "name: n1\npostgresql:\n  listen: '*:5432'\n  data_dri: /d\n";
    assert_eq!(
        load_text("n1.yml", text, []).unwrap_err().to_string(),
        "n1.yml: missing: scope, restapi.listen, consul, postgresql.connect_address, \
         postgresql.data_dir\n  \
         hint: add what is missing, or give it in the environment (HART_SCOPE, HART_NAME, …)\n\
         warning: n1.yml:4: unknown key \"postgresql.data_dri\" is ignored; did you mean \"data_dir\"?"
    );
    let error = load_text("n1.yml", "", []).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "n1.yml: missing: scope, name, restapi.listen, consul, postgresql.listen, "
        )
    );
    let text = "restapi: {listen: 'a:1', authentication: {username: u}}";
    assert!(super::error(text).contains("missing: restapi.authentication.password"));
}

#[test]
fn what_is_no_map_or_no_yaml_is_refused() {
    assert_eq!(
        load_text("n1.yml", "just text", []).unwrap_err().to_string(),
        "n1.yml:1:1: expected keys and values, found a single value\n  \
         hint: begin with lines such as \"scope: ha\""
    );
    let error = load_text("n1.yml", "scope: ha\nscope: hb\n", []).unwrap_err();
    assert_eq!(
        error.to_string(),
        "n1.yml:2:1: not valid YAML: the key \"scope\" is given twice, first on line 1\n  \
         hint: keep one of the two"
    );
    let error = load_text("n1.yml", "scope: ha\n  name: n1\n", []).unwrap_err();
    assert!(matches!(error, Error::Malformed { ref place, .. } if place.line == 2), "{error}");
    let error = load_text("n1.yml", "tags: {\n\"a: b\n", []).unwrap_err().to_string();
    assert!(error.starts_with("n1.yml:") && error.contains("not valid YAML"), "{error}");
}

#[test]
fn errors_hold_no_secrets() {
    for text in [
        "postgresql: {listen: 'a:1', data_dir: /d, authentication: {superuser: hush}}",
        "postgresql: {listen: 'a:1', data_dir: /d, authentication: hush}",
        "consul: {token: [hush]}",
        "consul: {url: 'https://u:hush@c'}",
        "restapi: {listen: 'a:1', authentication: hush}",
    ] {
        let error = try_with(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

/// Whoever wrote it wanted a locked door.
#[test]
fn an_old_login_that_cannot_be_read_is_refused() {
    for odd in ["secret", "admin:", ":secret"] {
        let text = format!("restapi: {{listen: '127.0.0.1:8008', auth: '{odd}'}}");
        let error = try_with(&text).unwrap_err().to_string();
        assert!(error.contains("restapi.auth") && !error.contains("secret"), "{odd}: {error}");
    }
}
