//! Options of every command that looks at a cluster, as `patronictl` has them.

use std::path::PathBuf;

use clap::Args;

/// Options before the command.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// A node's or patronictl's configuration file.
    ///
    /// Without it, the one that HART_CONFIG_FILE or PATRONICTL_CONFIG_FILE names, then the first of
    /// ~/.config/patroni/patronictl.yaml, /etc/hart/hart.yml and /etc/patroni/patroni.yml.
    #[arg(short, long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// Consul, such as consul://host:8500/service or http://host:8500; wins over the file.
    #[arg(
        short,
        long = "dcs",
        visible_aliases = ["dcs-url", "consul"],
        value_name = "URL",
        env = "DCS_URL"
    )]
    pub dcs: Option<String>,

    /// Do not verify the certificates of the members' REST API.
    #[arg(short = 'k', long)]
    pub insecure: bool,
}

/// Where patronictl keeps its own file, below the home directory.
const PATRONICTL: &str = ".config/patroni/patronictl.yaml";

/// Where packages put a node's configuration.
const INSTALLED: [&str; 2] = ["/etc/hart/hart.yml", "/etc/patroni/patroni.yml"];

impl Globals {
    /// The file to read: the option, then `HART_CONFIG_FILE` and `PATRONICTL_CONFIG_FILE`, then
    /// the usual places.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let named = ["HART_CONFIG_FILE", "PATRONICTL_CONFIG_FILE"].into_iter().find_map(variable);
        self.config_file.clone().or(named).or_else(usual_place)
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn usual_place() -> Option<PathBuf> {
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(PATRONICTL));
    own.into_iter().chain(INSTALLED.map(PathBuf::from)).find(|path| path.is_file())
}
