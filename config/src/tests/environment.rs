use super::{LEAST, SAMPLE, vars};
use crate::{ConsulToken, Loaded, Secret, load_from_env, load_text, reference};

fn load(text: &str, pairs: &[(&str, &str)]) -> Loaded {
    load_text("n1.yml", text, vars(pairs)).unwrap()
}

#[test]
fn hart_wins_over_patroni_and_patroni_over_the_file() {
    let name = |pairs: &[(&str, &str)]| load(SAMPLE, pairs).config.name;
    assert_eq!(name(&[]), "n1");
    assert_eq!(name(&[("PATRONI_NAME", "n2")]), "n2");
    assert_eq!(name(&[("HART_NAME", "n3"), ("PATRONI_NAME", "n2")]), "n3");
    assert_eq!(name(&[("HART_NAME", ""), ("PATRONI_NAME", "n2")]), "n2", "an empty one is not set");
}

#[test]
fn roles_lists_and_maps_come_from_the_environment_too() {
    let loaded = load(
        LEAST,
        &[
            ("PATRONI_REPLICATION_USERNAME", "rep"),
            ("PATRONI_REPLICATION_PASSWORD", " p:[x] "),
            ("HART_CONSUL_HOSTS", "a, b:80"),
            ("PATRONI_RESTAPI_ALLOWLIST", "['10.0.0.0/8', n2]"),
            ("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", "X-A: b"),
            ("PATRONI_CONSUL_TOKEN", "t"),
            ("PATRONI_CONSUL_REGISTER_SERVICE", "on"),
            ("PATRONI_POSTGRESQL_BIN_POSTGRES", "postgres-15"),
        ],
    );
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    let replication = &config.postgresql.authentication.replication;
    assert_eq!(replication.username, "rep");
    assert_eq!(replication.password, Some(Secret::new(" p:[x] ")));
    assert_eq!(config.consul.endpoints, ["http://a:8500", "http://b:80"]);
    assert_eq!(config.consul.token, ConsulToken::Value(Secret::new("t")));
    assert!(config.consul.register_service);
    assert_eq!(config.restapi.allowlist, ["10.0.0.0/8", "n2"]);
    assert_eq!(config.restapi.http_extra_headers, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(config.postgresql.bin_name["postgres"], "postgres-15");
}

#[test]
fn an_error_names_the_variable() {
    let env = vars(&[("HART_RESTAPI_LISTEN", "here")]);
    assert_eq!(
        load_text("n1.yml", SAMPLE, env).unwrap_err().to_string(),
        "HART_RESTAPI_LISTEN: restapi.listen: expected host:port, found \"here\": the port is missing\n  \
         hint: write host and port, such as 10.0.0.21:8008 or [fd00::1]:8008"
    );
    let env = vars(&[("HART_CONSUL_HOSTS", "[a")]);
    let error = load_text("n1.yml", SAMPLE, env).unwrap_err().to_string();
    assert!(error.starts_with("HART_CONSUL_HOSTS: not valid YAML: "), "{error}");
}

#[test]
fn misspelt_variables_are_reported_and_others_left_alone() {
    let loaded = load(
        SAMPLE,
        &[
            ("HART_POSTGRESQL_DATADIR", "/x"),
            ("HART_SOMETHING_ELSE_ALTOGETHER", "1"),
            ("PATRONI_KUBERNETES_POD_IP", "1"),
            ("PATRONI_RESTAPI_SERVER_TOKENS", "Minimal"),
            ("PATH", "/bin"),
        ],
    );
    let texts: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "unknown environment variable \"HART_POSTGRESQL_DATADIR\" is ignored; did you mean \
             \"HART_POSTGRESQL_DATA_DIR\"?",
            "environment variable \"PATRONI_KUBERNETES_POD_IP\" is not supported by hart and is ignored",
            "PATRONI_RESTAPI_SERVER_TOKENS: key \"restapi.server_tokens\" is not supported by hart and is \
             ignored",
        ]
    );
}

#[test]
fn the_whole_configuration_may_be_in_the_environment() {
    let env = [("PATRONI_CONFIGURATION", SAMPLE), ("HART_NAME", "n9")];
    let loaded = load_from_env(vars(&env)).unwrap();
    assert_eq!((loaded.config.name.as_str(), loaded.warnings), ("n9", vec![]));
    let env = [
        ("HART_SCOPE", "ha"),
        ("HART_NAME", "n1"),
        ("HART_CONSUL_HOST", "c"),
        ("HART_RESTAPI_LISTEN", "127.0.0.1:1"),
        ("HART_POSTGRESQL_LISTEN", "127.0.0.1:2"),
        ("HART_POSTGRESQL_DATA_DIR", "/d"),
    ];
    assert_eq!(load_from_env(vars(&env)).unwrap().config.consul.endpoints, ["http://c:8500"]);
    let error = load_from_env(vars(&env[..1])).unwrap_err().to_string();
    assert!(error.starts_with("the environment: missing: name, restapi.listen"), "{error}");
}

#[test]
fn every_variable_of_the_table_reaches_its_key() {
    for key in reference() {
        let Some(suffix) = key.env else { continue };
        let name = format!("HART_{suffix}");
        let env = crate::env::Environment::new(vars(&[(&name, "x: y")]));
        let mut root = crate::tree::Node::empty_map(&"t".into());
        env.lay_over(&mut root).unwrap();
        assert_eq!(&*root.at(key.path).unwrap().place.file, name);
    }
}
