//! Why a name has no address.

use std::io;

/// Why there is no address for a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// The resolver says so.
    #[error(
        "there is no address for the name {host}: correct the name, or its entry in DNS or /etc/hosts"
    )]
    NoSuchName {
        /// The name.
        host: String,
    },
    /// The resolver failed, and no answer is known from before.
    #[error("the name {host} was not resolved: {why}; see to the resolver in /etc/resolv.conf")]
    Failed {
        /// The name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// The resolver has not answered in time, and no answer is known from before.
    #[error(
        "the resolver has not answered for the name {host} in time; see to the resolver in /etc/resolv.conf"
    )]
    Silent {
        /// The name.
        host: String,
    },
}

impl From<NoAddress> for io::Error {
    fn from(error: NoAddress) -> Self {
        let kind = match &error {
            // Not `NotFound`: that would say that nobody listens there.
            NoAddress::NoSuchName { .. } | NoAddress::Failed { .. } => io::ErrorKind::Other,
            NoAddress::Silent { .. } => io::ErrorKind::TimedOut,
        };
        Self::new(kind, error)
    }
}
