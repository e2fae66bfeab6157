//! The whole configuration of a node.

use std::cell::RefCell;
use std::path::PathBuf;

use hart_ha::kv::Tags;
use serde_json::Value;

use crate::error::Problem;
use crate::keys::{KeyDoc, Kind, key};
use crate::reader::{Findings, Section};
use crate::redact;
use crate::sections::{
    Bootstrap, Consul, Ctl, Dns, Guard, Hooks, Log, PgBouncer, Postgresql, Profile, RestApi, Vip,
    Watchdog, read_tags,
};
use crate::tree::Node;

/// A node's configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name.
    pub scope: String,
    /// The node's name, unique in the cluster.
    pub name: String,
    /// The folder in Consul, without slashes at its ends; may be empty.
    pub namespace: String,
    /// Where hart keeps its own state, where that is not beside the data directory.
    pub state_dir: Option<PathBuf>,
    /// The profile, where one is named.
    pub profile: Option<Profile>,
    /// The REST API.
    pub restapi: RestApi,
    /// How to reach Consul.
    pub consul: Consul,
    /// How a new cluster begins.
    pub bootstrap: Bootstrap,
    /// The local PostgreSQL.
    pub postgresql: Postgresql,
    /// The kernel's watchdog.
    pub watchdog: Watchdog,
    /// The node's tags.
    pub tags: Tags,
    /// Logging.
    pub log: Log,
    /// The command line's access to other nodes' REST API.
    pub ctl: Ctl,
    /// The guard.
    pub guard: Guard,
    /// How long programs may take that hart runs for somebody.
    pub hooks: Hooks,
    /// The DNS responder, where there is to be one.
    pub dns: Option<Dns>,
    /// Addresses that follow the primary, where the section is there.
    pub vip: Option<Vip>,
    /// PgBouncers on this host, where the section is there.
    pub pgbouncer: Option<PgBouncer>,
    pub(crate) shown: Value,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("scope", Kind::Text, "The cluster's name, the same on all nodes.").required().env("SCOPE"),
    key("name", Kind::Text, "The node's name, unique in the cluster.").required().env("NAME"),
    key("namespace", Kind::Text, "The folder in Consul below which the cluster is kept.")
        .default("/service")
        .env("NAMESPACE"),
    key(
        "state_dir",
        Kind::Path,
        "Where hart keeps its own state (identity, terms, journal), one directory for each node; it \
         must be as durable as the data. Absent: the data directory's name with .hart behind it.",
    )
    .env("STATE_DIR"),
    key(
        "profile",
        Kind::Words(Profile::WORDS),
        "Timing of a new cluster; a key in bootstrap.dcs wins.",
    )
    .env("PROFILE"),
];

impl Config {
    /// Where the cluster is kept in Consul: `service/<scope>/`, without a leading slash.
    #[must_use]
    pub fn kv_prefix(&self) -> String {
        let folder = &self.namespace;
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("{folder}{slash}{}/", self.scope)
    }

    /// The configuration as it was given (file and environment together), secrets as `***`.
    #[must_use]
    pub fn redacted_json(&self) -> &Value {
        &self.shown
    }

    /// Reads everything; what is wrong is in the findings, and then the result is of no use.
    pub(crate) fn read(root: &Node, findings: &RefCell<Findings>) -> Self {
        let top = Section::root(root, findings);
        let (scope, name) = (read_name(&top, "scope"), read_name(&top, "name"));
        let profile = top.word("profile");
        Self {
            namespace: read_namespace(&top),
            state_dir: top.place("state_dir"),
            profile,
            restapi: RestApi::read(&top),
            consul: Consul::read(&top),
            bootstrap: Bootstrap::read(&top, profile.unwrap_or_default()),
            postgresql: Postgresql::read(&top),
            watchdog: Watchdog::read(&top),
            tags: read_tags(&top, &name),
            log: Log::read(&top),
            ctl: Ctl::read(&top),
            guard: Guard::read(&top),
            hooks: Hooks::read(&top),
            dns: Dns::read(&top),
            vip: Vip::read(&top),
            pgbouncer: PgBouncer::read(&top),
            shown: redact::shown(root),
            scope,
            name,
        }
    }
}

/// The longest name: PostgreSQL cuts `application_name` and slot names there, and two nodes must
/// not become one.
const LONGEST_NAME: usize = 63;

/// A name is part of a Consul key and of lists with commas between, and is compared with
/// `application_name`.
fn read_name(top: &Section<'_>, key: &str) -> String {
    let Some(name) = top.text(key) else { return String::new() };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/\\,\"'?#%".contains(c);
    let what = if name.is_empty() {
        "expected a name, found an empty one".to_owned()
    } else if let Some(bad) = name.chars().find(|c| odd(*c)) {
        format!("expected a name, found {bad:?} in it")
    } else if name == "*" {
        // Also in quotes it is everybody (`synchronous_standby_names`).
        "expected a name, found '*', which PostgreSQL takes for every standby".to_owned()
    } else if name.eq_ignore_ascii_case(hart_ha::waits::NOBODY) {
        // PostgreSQL compares without regard to capitals.
        format!("expected a name, found {name}, by which commits are made to wait for nobody")
    } else if name.len() > LONGEST_NAME || name == "." || name == ".." {
        format!("expected a name of up to {LONGEST_NAME} bytes, found {} bytes", name.len())
    } else {
        return name;
    };
    if let Some(node) = top.given(key) {
        top.problem(key, node, what, "use letters, digits, dots, dashes and underscores");
    }
    name
}

fn read_namespace(top: &Section<'_>) -> String {
    let text = top.text("namespace").unwrap_or_default();
    let folder = text.trim_matches('/').to_owned();
    let odd = |c: char| c.is_whitespace() || c.is_control() || "?#%\\".contains(c);
    if let Some(node) = top.given("namespace")
        && (folder.contains(odd) || folder.contains("//"))
    {
        let what = format!("expected a folder, found {}", node.found());
        top.problem("namespace", node, what, "write it such as /service");
    }
    folder
}

/// All missing keys in one problem.
pub(crate) fn missing_problem(name: &str, missing: &[String]) -> Option<Problem> {
    let place = crate::error::Place::whole(&name.into());
    let what = format!("missing: {}", missing.join(", "));
    let hint = "add what is missing, or give it in the environment (HART_SCOPE, HART_NAME, …)";
    (!missing.is_empty()).then(|| Problem { place, field: String::new(), what, hint: hint.into() })
}
