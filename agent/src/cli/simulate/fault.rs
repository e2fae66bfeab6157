//! What goes wrong.

use std::collections::BTreeSet;

use super::SimulateArgs;
use crate::cli::cluster::Cluster;
use crate::cli::fail::Fail;

/// One fault, from one moment on, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// These hosts are gone.
    Lose(BTreeSet<String>),
    /// These hosts reach only each other.
    Partition(BTreeSet<String>),
    /// Nobody reaches Consul.
    ConsulDown,
    /// Nothing goes wrong.
    #[cfg(test)]
    None,
}

impl Fault {
    /// What the arguments say, if the cluster has these members.
    ///
    /// # Errors
    /// A member that is not there.
    pub fn of(args: &SimulateArgs, cluster: &Cluster) -> Result<Self, Fail> {
        for name in args.lose.iter().chain(&args.partition) {
            cluster.member(name)?;
        }
        let set = |names: &[String]| names.iter().cloned().collect();
        match (args.lose.as_slice(), args.partition.as_slice(), args.consul_down) {
            ([], [], true) => Ok(Self::ConsulDown),
            (names @ [_, ..], [], false) => Ok(Self::Lose(set(names))),
            ([], names @ [_, ..], false) => Ok(Self::Partition(set(names))),
            _ => Err(Fail::usage("one fault at a time")
                .hint("give one of --lose MEMBER, --partition MEMBER and --consul-down")),
        }
    }

    /// Does this host still run?
    pub fn lives(&self, name: &str) -> bool {
        !matches!(self, Self::Lose(names) if names.contains(name))
    }

    /// Does a request from this host to Consul get through?
    pub fn reaches_consul(&self, name: &str) -> bool {
        match self {
            Self::ConsulDown => false,
            Self::Partition(names) => !names.contains(name),
            _ => self.lives(name),
        }
    }

    /// Does a packet between these hosts get through?
    pub fn connects(&self, a: &str, b: &str) -> bool {
        match self {
            Self::Partition(names) => names.contains(a) == names.contains(b),
            _ => self.lives(a) && self.lives(b),
        }
    }

    /// For people, as the beginning of a sentence.
    pub fn sentence(&self) -> String {
        let list = |names: &BTreeSet<String>| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let verb = if names.len() == 1 { "was" } else { "were" };
            format!("{} {verb}", names.join(" and "))
        };
        match self {
            Self::Lose(names) => format!("If {} lost now", list(names)),
            Self::Partition(names) => format!("If {} cut off now", list(names)),
            Self::ConsulDown => "If Consul were down from now on".to_owned(),
            #[cfg(test)]
            Self::None => "If nothing happened".to_owned(),
        }
    }
}
