//! What Consul refuses, in Consul's words (clients match on them).

/// A refused request. Consul answers all of these with status 500 and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Lock or unlock without a session.
    #[error("missing session")]
    MissingSession,
    /// No such session: never created, destroyed or expired.
    #[error("invalid session {0:?}")]
    InvalidSession(String),
    /// A session id that is no UUID.
    #[error("failed session lookup: index error: {0}")]
    BadSessionId(String),
    /// A session id that the caller chose twice.
    #[error("session {0:?} exists: choose a new id")]
    SessionExists(String),
    /// A write without a key.
    #[error("Must provide key")]
    MissingKey,
    /// Session creation without a node.
    #[error("Must provide Node")]
    SessionWithoutNode,
    /// Session creation for a node that the catalog does not have.
    #[error("Missing node registration")]
    UnknownNode,
    /// Session creation with a check that the catalog does not have.
    #[error("Missing check '{0}' registration")]
    UnknownCheck(String),
    /// Session creation with a check that is critical.
    #[error("Check '{0}' is in {1} state")]
    CheckNotPassing(String, String),
    /// A session behaviour that is neither `release` nor `delete`.
    #[error("Invalid Behavior setting '{0}'")]
    BadBehavior(String),
    /// A session TTL that is no duration.
    #[error("Session TTL '{0}' invalid: {1}")]
    UnreadableTtl(String, String),
    /// A session TTL out of bounds (nanoseconds).
    #[error("Invalid Session TTL '{0}', must be between [10s=24h0m0s]")]
    TtlOutOfBounds(i64),
    /// Catalog registration without a node.
    #[error("Must provide node")]
    RegistrationWithoutNode,
    /// Catalog registration without an address.
    #[error("Must provide address if SkipNodeUpdate is not set")]
    RegistrationWithoutAddress,
    /// A check of a service that is not registered on the agent.
    #[error("ServiceID {0:?} does not exist")]
    CheckOfUnknownService(String),
    /// A TTL update of something that is no TTL check.
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(String),
    /// Deregistration without a service id.
    #[error("ServiceID missing")]
    MissingServiceId,
    /// Maintenance of a service that is not registered on the agent.
    #[error("No service registered with ID {0:?}")]
    UnknownService(String),
}
