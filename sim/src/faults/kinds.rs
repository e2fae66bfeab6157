//! The kinds of faults.

macro_rules! kinds {
    ($($kind:ident => $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Kind {
            $($kind,)*
        }

        /// All of them.
        pub const KINDS: &[Kind] = &[$(Kind::$kind,)*];

        impl Kind {
            /// For people.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    AgentKilled => "agent killed",
    AgentStopped => "agent stopped",
    AgentFrozen => "agent frozen",
    LoopStalled => "loop stalled",
    GuardKilled => "guard killed",
    GuardFrozen => "guard frozen",
    AgentAndGuardFrozen => "agent and guard frozen",
    PostgresKilled => "PostgreSQL killed",
    PostgresFrozen => "PostgreSQL frozen",
    PostgresSlow => "PostgreSQL slow",
    SlowFence => "slow fence",
    NodeCrashed => "node crashed",
    NodeFrozen => "node frozen",
    NodesCutFromEachOther => "nodes cut from each other",
    NodeIsolated => "node isolated",
    NodeCutFromConsul => "node cut from Consul",
    OneWayCut => "one-way cut",
    SlowLink => "slow link",
    SlowAnswers => "slow answers of Consul",
    LossyNetwork => "lossy network",
    DuplicatesOnNetwork => "duplicates on the network",
    ConsulDown => "Consul down",
    ConsulBlink => "Consul blinks",
    SessionsLost => "sessions lost",
    StoreWiped => "store wiped",
    SyncWaitCancelled => "sync wait cancelled",
    Switchover => "switchover",
    Failover => "failover",
    Pause => "pause",
    Reinit => "reinit",
    Restart => "restart",
    TtlChanged => "ttl changed",
    SyncChanged => "sync mode changed",
    DataLost => "data lost",
    FailsafeChanged => "failsafe mode changed",
    DiskHangs => "disk hangs",
    StrayPostgres => "PostgreSQL started past the guard",
    NamesAltered => "synchronous names altered",
    AddressMisled => "an address leads to another member",
    StrangerAsks => "a stranger asks for promises",
    ConsulFar => "Consul far away",
    StatusDeleted => "status deleted",
    ForeignLock => "lock of another program",
    PromotedByHand => "promotion by hand",
    WritesSlow => "Consul slow to write",
    ArchiveSlow => "slow archive",
    StoppedByHand => "stopped by hand in a pause",
    NamedDataLost => "data of a published standby lost",
    ArchiveBad => "archive whose copies are not whole",
    SignalRemoved => "started without standby.signal while a job is at work",
    ImpostorStreams => "somebody streams under a member's name",
}

/// The last four cost more than a cluster has to bear, or only time: they are for mutations alone.
pub const DRAWN: &[Kind] = KINDS.split_at(KINDS.len() - 4).0;

/// Kinds that must not make the primary change.
pub const HARMLESS: &[Kind] =
    &[Kind::ConsulBlink, Kind::SessionsLost, Kind::DuplicatesOnNetwork, Kind::StrangerAsks];

/// The same where every member agrees to go on without Consul.
pub const HARMLESS_WITH_FAILSAFE: &[Kind] = &[
    Kind::ConsulBlink,
    Kind::SessionsLost,
    Kind::DuplicatesOnNetwork,
    Kind::ConsulDown,
    Kind::StrangerAsks,
];
