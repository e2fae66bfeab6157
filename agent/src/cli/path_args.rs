//! The positional argument of most commands.

use clap::Args;

/// Names the cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArg {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    pub cluster: Option<String>,
}
