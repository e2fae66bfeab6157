//! What the command line needs to know of the configuration: much less than a node does.

use std::path::Path;

use hart_config::{Config, Error, Loaded};

use crate::cli::{Fail, Globals, dcs_url};

/// The configuration as the command line uses it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name, where one is given.
    pub scope: Option<String>,
    /// The folder in Consul, without slashes at its ends; may be empty.
    pub namespace: String,
    /// The rest. Keys that only a node needs may hold placeholders.
    pub config: Config,
}

type Variables = Vec<(String, String)>;

/// Keys without which a node cannot be, and which the command line does not look at.
const NODE: [(&str, &str); 6] = [
    ("HART_NAME", "hart"),
    ("HART_RESTAPI_LISTEN", "127.0.0.1:8008"),
    ("HART_RESTAPI_CONNECT_ADDRESS", "127.0.0.1:8008"),
    ("HART_POSTGRESQL_LISTEN", "127.0.0.1:5432"),
    ("HART_POSTGRESQL_CONNECT_ADDRESS", "127.0.0.1:5432"),
    ("HART_POSTGRESQL_DATA_DIR", "/nonexistent"),
];
const CONSUL: (&str, &str) = ("HART_CONSUL_HOST", "127.0.0.1:8500");
const SCOPE: (&str, &str) = ("HART_SCOPE", "unnamed");

/// Reads the file that `globals` name, or the environment alone, and lays the URL over it.
///
/// # Errors
/// The file or the URL cannot be used.
pub fn load(globals: &Globals) -> Result<Settings, Fail> {
    let url =
        globals.dcs.as_deref().filter(|url| !url.is_empty()).map(dcs_url::parse).transpose()?;
    let file = globals.file();
    let env: Variables = hart_config::process_env().collect();
    let (loaded, scope_given) = lenient(file.as_deref(), &env)?;
    for warning in &loaded.warnings {
        eprintln!("hart: warning: {warning}");
    }
    let mut config = loaded.config;
    config.ctl.insecure |= globals.insecure;
    let mut namespace = config.namespace.clone();
    if let Some(url) = url {
        config.consul.endpoints = vec![url.endpoint];
        namespace = url.namespace.unwrap_or(namespace);
    }
    let scope = scope_given.then(|| config.scope.clone());
    Ok(Settings { scope, namespace, config })
}

/// Reads a node's configuration or one with less in it, such as patronictl's own: what is missing
/// for a node is filled in from the least that is needed. The flag says whether a scope was given.
fn lenient(file: Option<&Path>, env: &Variables) -> Result<(Loaded, bool), Fail> {
    let mut first = None;
    let node = NODE.as_slice();
    for (fill, scope_given) in [
        (Vec::new(), true),
        (node.to_vec(), true),
        ([node, &[CONSUL]].concat(), true),
        ([node, &[SCOPE]].concat(), false),
        ([node, &[CONSUL, SCOPE]].concat(), false),
    ] {
        match read(file, env, &fill) {
            Ok(loaded) => return Ok((loaded, scope_given)),
            Err(error @ Error::Invalid(_)) => first = first.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    let none = || Fail::usage("there is no configuration").hint("give one with -c FILE");
    Err(first.map_or_else(none, Fail::from))
}

fn read(file: Option<&Path>, env: &Variables, fill: &[(&str, &str)]) -> Result<Loaded, Error> {
    let fill = fill.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = env.iter().filter(|(name, _)| name != "HART_CONFIG_FILE").cloned().chain(fill);
    match file {
        Some(file) => hart_config::load(file, env),
        None => hart_config::load_from_env(env),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<(Loaded, bool), Fail> {
        let env = vec![("HART_CONFIGURATION".to_owned(), text.to_owned())];
        lenient(None, &env)
    }

    #[test]
    fn patronictls_own_file_is_enough() {
        let text = "scope: ha\nconsul: {host: \"10.0.0.1:8500\"}\n\
                    ctl: {authentication: {username: u, password: p}}";
        let (loaded, scope_given) = from_text(text).unwrap();
        assert!(scope_given);
        assert_eq!(loaded.config.scope, "ha");
        assert_eq!(loaded.config.consul.endpoints, ["http://10.0.0.1:8500"]);
        assert_eq!(loaded.config.ctl.authentication.unwrap().username, "u");
    }

    #[test]
    fn nothing_at_all_means_the_local_consul() {
        let (loaded, scope_given) = from_text("{}").unwrap();
        assert!(!scope_given);
        assert_eq!(loaded.config.consul.endpoints, ["http://127.0.0.1:8500"]);
    }

    #[test]
    fn a_wrong_value_is_still_refused() {
        let fail = from_text("scope: ha\nconsul: {port: many}").unwrap_err();
        assert_eq!(fail.code(), 64);
        assert!(fail.to_string().contains("consul.port"), "{fail}");
    }
}
