//! Safety rules, switched off one at a time: the simulator must notice.

use crate::faults::Kind;

/// A rule that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A challenger does not wait for the lease to run out.
    TakeoverWithoutWaiting,
    /// A lease that has vanished from the store is not waited for.
    VanishedLeaseNotWaitedFor,
    /// A takeover does not compare the version of `status`.
    TakeoverWithoutCas,
    /// A renewal does not compare the version of `status`, nor the lock.
    RenewWithoutCas,
    /// No time is set aside for the fence, on either side.
    MarginZero,
    /// The holder counts from the answer instead of the request.
    CountFromAnswer,
    /// An answer that never came is taken for a success.
    UnknownTakenForApplied,
    /// A shorter ttl does not cut the deadline before its request leaves.
    TtlCutIgnored,
    /// The guard never fences by itself.
    GuardIgnoresDeadline,
    /// After a freeze the guard looks at the clock only at its next turn, a second later.
    GuardSleepsOn,
    /// The clock stands still while the machine is frozen.
    ClockStopsInFreeze,
    /// The lease is still shown to the brain when it is over.
    HoldOutlivesDeadline,
    /// PostgreSQL is promoted under a guard that was not armed.
    PromoteWithoutArmedGuard,
    /// The lease is released before PostgreSQL has stopped.
    ReleaseBeforeStop,
    /// The server is reported as gone when it was told to go.
    DownReportedEarly,
    /// The heir of a hand-over need not have the shutdown checkpoint.
    HandOverBeforeCaughtUp,
    /// Peers' positions are not compared before a takeover.
    PositionsIgnored,
    /// How far a candidate lies behind the last record is not looked at.
    LagIgnored,
    /// Standbys are published before commits wait for them.
    SyncPublishedEarly,
    /// Who is not in the published synchronous set may lead.
    SyncSetIgnored,
    /// The winner does not enter itself into `sync` before the promotion.
    SyncNotClaimed,
    /// Commits stop waiting for a standby before it is out of the published set.
    SyncLetGoEarly,
    /// A write of the set compares no version.
    SyncWithoutCas,
    /// A write of the set whose result is not known is taken for one that failed.
    SyncDoubtForgotten,
    /// A picture from before the set was published is taken for the present.
    SyncPastBelieved,
    /// A candidate with a quorum does not ask the others.
    QuorumNotAsked,
    /// The word of one that still gets WAL from the old primary counts.
    QuorumWordDoesNotBind,
    /// The term is not kept beside the data directory.
    TermForgotten,
    /// A member that promised to leave the lease alone takes it all the same.
    FailsafePromiseIgnored,
    /// A member that is silent counts as one that agrees.
    OneSilenceSuffices,
    /// Who is not on the published failsafe list may take the lease.
    FailsafeListIgnored,
    /// A node that had lost touch takes the list that it knows for the last one.
    FailsafeGapIgnored,
    /// The lease is renewed although the kill of PostgreSQL does not end.
    UnkillableRenewsOn,
    /// The lease is given up by what the agent remembers of PostgreSQL.
    SystemNotAsked,
    /// A PostgreSQL that was started past the guard is not looked for.
    StrayNotLookedFor,
    /// It is not looked for while a job is at work.
    JobBarsLooking,
    /// A data directory at rest has no `standby.signal`.
    RestIsWritable,
    /// Commits are taken to wait as was proved once, whatever names are in force.
    ProofCountsForEver,
    /// Whoever answers at a member's address counts as that member, and answers for it.
    PromiseWithoutItsGiver,
    /// A promise is given to anybody who asks.
    PromiseToAnybody,
    /// A standby's timeline is that of its control file, a comparison of a running server is believed,
    /// and so is its word when there is nothing to rewind.
    LaggingTimelineBelieved,
    /// A member does not look whether another one is being copied anew.
    CopiesAtOnce,
    /// Data is thrown away before the source of the copy has been reached.
    SourceNotProved,
    /// The holder takes the lock of another program for its own.
    ForeignLockTakenBack,
    /// In synchronous mode standbys rest without names.
    StandbysRestWithoutNames,
    /// A node that somebody promoted past hart leads as if hart had promoted it.
    ReignNotRightful,
    /// Nobody looks what a promotion waits for.
    ArchiveNotSeen,
    /// Data that was restored while nobody led counts as what the node had.
    RestoredCounts,
    /// A node is promoted again with less than it had when it was promoted first.
    PromotedBelow,
    /// In a pause the guard is let off its deadline although the record in Consul says nothing of it.
    OpenNotSaid,
    /// A lease without an end is taken over like any other.
    OpenRunsOut,
    /// What a person stops in a pause is started again.
    StoppedIsStarted,
    /// Any job under way hides what a person stops in a pause.
    JobHidesHand,
    /// What the leader's member entry has proved once counts, also when it was that of an earlier reign.
    EntryBelieved,
    /// Nobody looks for which sessions a promotion waits.
    ReadersNotSeen,
    /// A comparison of timelines is waited for while nobody leads.
    JobBarsRace,
    /// Who streams under a member's name is taken for the member.
    StrangersBelieved,
    /// In a pause a primary whose deadline has come is left to its guard.
    PauseTrustsGuard,
    /// A holder whose lease was revoked leads on until its deadline.
    RevocationIgnored,
    /// A holder that may have been revoked writes a record again that has vanished.
    VanishedMadeAgain,
    /// A lease is revoked because no renewal has come for a while.
    SuspectedByOneSign,
    /// Whoever revokes a lease goes on getting WAL from its holder.
    ReceiverNotEnded,
    /// The term of a reign is not noted before the promotion.
    TermNotNoted,
}

/// All of them, with the rule's text for the table.
pub const ALL: &[(Mutation, &str)] = &[
    (Mutation::TakeoverWithoutWaiting, "a takeover waits until the lease has run out"),
    (Mutation::VanishedLeaseNotWaitedFor, "a lease that has vanished is waited for"),
    (Mutation::TakeoverWithoutCas, "a takeover compares the version of status"),
    (Mutation::RenewWithoutCas, "a renewal compares the version of status and the lock"),
    (Mutation::MarginZero, "a margin is set aside for the fence"),
    (Mutation::CountFromAnswer, "the holder counts from the request, not from the answer"),
    (Mutation::UnknownTakenForApplied, "an unknown result is read back, not taken for a success"),
    (Mutation::TtlCutIgnored, "a shorter ttl cuts the deadline before its request leaves"),
    (Mutation::GuardIgnoresDeadline, "the guard fences at the deadline"),
    (Mutation::GuardSleepsOn, "the guard looks at the clock as soon as it wakes up"),
    (Mutation::ClockStopsInFreeze, "the clock counts while the machine is frozen"),
    (Mutation::HoldOutlivesDeadline, "the lease is not shown when it is over"),
    (Mutation::PromoteWithoutArmedGuard, "nothing is promoted before the guard is armed"),
    (Mutation::ReleaseBeforeStop, "the lease is given up only after PostgreSQL is gone"),
    (Mutation::DownReportedEarly, "gone is reported when the last process is gone"),
    (Mutation::HandOverBeforeCaughtUp, "an heir has the shutdown checkpoint"),
    (Mutation::PositionsIgnored, "positions are compared before a takeover"),
    (Mutation::LagIgnored, "who is too far behind does not take over by itself"),
    (Mutation::SyncPublishedEarly, "a standby is published when commits wait for it"),
    (Mutation::SyncSetIgnored, "only the published synchronous set may lead by itself"),
    (Mutation::SyncNotClaimed, "the winner enters itself into sync before the promotion"),
    (Mutation::SyncLetGoEarly, "a standby is out of sync before commits stop waiting for it"),
    (Mutation::SyncWithoutCas, "a write of sync compares its version"),
    (Mutation::SyncDoubtForgotten, "a write of sync that may come true is ruled out first"),
    (Mutation::SyncPastBelieved, "a picture from before sync was published lets no commit go"),
    (Mutation::QuorumNotAsked, "with a quorum nobody leads without the word of others"),
    (Mutation::QuorumWordDoesNotBind, "who gives its word takes no WAL from another any more"),
    (Mutation::TermForgotten, "the term outlives a wiped store and a restart"),
    (Mutation::FailsafePromiseIgnored, "a promise to leave the lease alone is kept"),
    (Mutation::OneSilenceSuffices, "every member must promise; a silence is a no"),
    (
        Mutation::FailsafeGapIgnored,
        "who was out of touch when the list vanished hears everybody first",
    ),
    (Mutation::PromiseWithoutItsGiver, "a promise counts as that of the member that gives it"),
    (Mutation::PromiseToAnybody, "a promise is given to the holder of the lease only"),
    (Mutation::FailsafeListIgnored, "who is not on the failsafe list does not take over"),
    (Mutation::UnkillableRenewsOn, "a lease is not renewed for a PostgreSQL that cannot be ended"),
    (Mutation::SystemNotAsked, "before the lease is given up the system is asked who writes"),
    (Mutation::StrayNotLookedFor, "a PostgreSQL without a guard is looked for and ended"),
    (Mutation::JobBarsLooking, "it is looked for while a job is at work, too"),
    (Mutation::RestIsWritable, "a data directory at rest starts read-only"),
    (Mutation::ProofCountsForEver, "a proof counts only while the names are in force"),
    (
        Mutation::LaggingTimelineBelieved,
        "a standby's timeline is that of what it replayed, and what has nothing to be rewound is kept",
    ),
    (Mutation::CopiesAtOnce, "one member at a time throws its data away"),
    (Mutation::SourceNotProved, "data goes only when what replaces it is there to be copied"),
    (Mutation::ForeignLockTakenBack, "a lock of another program's is a lost lease"),
    (Mutation::StandbysRestWithoutNames, "what is promoted by hand acknowledges nothing"),
    (
        Mutation::ReignNotRightful,
        "who was promoted past hart leads only when the synchronous set is its own",
    ),
    (Mutation::ArchiveNotSeen, "a promotion that waits for its archive is none that stands still"),
    (
        Mutation::RestoredCounts,
        "what was restored without a leader does not count as what the node had confirmed",
    ),
    (Mutation::PromotedBelow, "no promotion with less WAL than the one before it had"),
    (Mutation::OpenNotSaid, "a guard without a deadline is said in the lease first"),
    (Mutation::OpenRunsOut, "a lease without an end is not taken over by waiting"),
    (Mutation::StoppedIsStarted, "what is stopped by hand in a pause stays stopped"),
    (
        Mutation::JobHidesHand,
        "in a pause what ends beside a job that does not end PostgreSQL was ended by somebody else",
    ),
    (
        Mutation::EntryBelieved,
        "what a leader's entry alone proves has to hold while others are waited for",
    ),
    (Mutation::ReadersNotSeen, "sessions that a promotion waits for are ended"),
    (Mutation::JobBarsRace, "no comparison of timelines stands between a free lease and the race"),
    (
        Mutation::StrangersBelieved,
        "a stranger's word under a member's name is none of the member's",
    ),
    (
        Mutation::PauseTrustsGuard,
        "past its deadline a primary is fenced past a guard that hangs, in a pause, too",
    ),
    (Mutation::RevocationIgnored, "who sees a later reign than its own is fenced at once"),
    (Mutation::VanishedMadeAgain, "a record that has vanished may have been that of a later reign"),
    (Mutation::SuspectedByOneSign, "no lease is revoked on one sign of its holder's absence"),
    (Mutation::ReceiverNotEnded, "who revokes a lease gets no WAL from its holder any more"),
    (Mutation::TermNotNoted, "a term is on the disk before anything is done in it"),
];

impl Mutation {
    /// Does this violation come from the rule that is switched off, and not from another one?
    #[must_use]
    pub fn explains(self, violation: &str) -> bool {
        let any = |words: &[&str]| words.iter().any(|word| violation.contains(word));
        match self {
            Self::LaggingTimelineBelieved | Self::EntryBelieved => {
                any(&["although the leader has all of it"])
            }
            Self::CopiesAtOnce => any(&["at the same time"]),
            Self::SourceNotProved => any(&["before there was anything to copy"]),
            Self::HandOverBeforeCaughtUp => any(&["handed over to a node"]),
            Self::PositionsIgnored => any(&["took over although"]),
            Self::LagIgnored => any(&["are allowed"]),
            Self::SyncPublishedEarly => any(&["is lost", "lacks, as published"]),
            Self::SyncSetIgnored => any(&["is lost", "without having been in it"]),
            Self::SyncLetGoEarly
            | Self::SyncWithoutCas
            | Self::SyncDoubtForgotten
            | Self::SyncPastBelieved
            | Self::StrangersBelieved
            | Self::ProofCountsForEver => any(&["is lost", "lacks, as published"]),
            Self::QuorumNotAsked | Self::QuorumWordDoesNotBind => {
                any(&["is lost", "although sync"])
            }
            Self::ReignNotRightful | Self::SyncNotClaimed => {
                any(&["is lost", "is primary, sync is"])
            }
            Self::ReleaseBeforeStop | Self::SystemNotAsked => any(&["gives the lease up while"]),
            Self::DownReportedEarly => {
                any(&["a second server", "gives the lease up", "reports a fence", "two primaries"])
            }
            Self::StandbysRestWithoutNames => any(&["although sync names"]),
            Self::ArchiveNotSeen => any(&["waits for its archive"]),
            Self::RestoredCounts | Self::PromotedBelow => any(&["is lost"]),
            Self::RevocationIgnored => any(&[
                "two primaries",
                "is lost",
                "without having been",
                "acknowledged a write",
                "after term",
            ]),
            Self::SuspectedByOneSign => any(&["which answers"]),
            Self::ReceiverNotEnded => any(&["while it gets WAL"]),
            Self::TermNotNoted => any(&["not on its disk"]),
            Self::VanishedMadeAgain => any(&["which was revoked", "two primaries", "is lost"]),
            Self::StoppedIsStarted | Self::JobHidesHand => any(&["starts what a person stopped"]),
            Self::ReadersNotSeen => any(&["waits for sessions"]),
            Self::JobBarsRace => any(&["a comparison of timelines barred the race"]),
            Self::StrayNotLookedFor => any(&["two primaries", "did not heal"]),
            Self::PromiseToAnybody => any(&["has promised a stranger"]),
            Self::ForeignLockTakenBack => any(&["takes the lock from"]),
            Self::TermForgotten | Self::RenewWithoutCas => any(&["after term", "two primaries"]),
            Self::UnkillableRenewsOn => any(&["renews its lease although", "only one disk hangs"]),
            _ => any(&["two primaries"]),
        }
    }

    /// The faults that the rule is for, where chance alone brings them together too seldom.
    #[must_use]
    pub fn faults(self) -> &'static [Kind] {
        match self {
            Self::CountFromAnswer => &[Kind::SlowAnswers, Kind::LossyNetwork, Kind::NodeIsolated],
            Self::MarginZero => &[Kind::NodeIsolated, Kind::NodeCutFromConsul, Kind::SlowFence],
            Self::RenewWithoutCas => {
                &[Kind::SlowLink, Kind::OneWayCut, Kind::AgentFrozen, Kind::NodeIsolated]
            }
            Self::SyncDoubtForgotten | Self::SyncPastBelieved => {
                &[Kind::SyncChanged, Kind::SlowLink, Kind::LossyNetwork, Kind::AgentKilled]
            }
            Self::ProofCountsForEver => &[Kind::NamesAltered, Kind::SlowLink, Kind::NodeCrashed],
            Self::LaggingTimelineBelieved => &[Kind::Switchover, Kind::NodesCutFromEachOther],
            Self::CopiesAtOnce => &[Kind::Reinit, Kind::Reinit, Kind::Reinit],
            Self::SourceNotProved => &[Kind::Reinit, Kind::NodesCutFromEachOther, Kind::Switchover],
            Self::ForeignLockTakenBack => &[Kind::ForeignLock],
            Self::HandOverBeforeCaughtUp => &[Kind::Switchover, Kind::PostgresFrozen],
            Self::FailsafePromiseIgnored | Self::OneSilenceSuffices => {
                &[Kind::NodeCutFromConsul, Kind::NodesCutFromEachOther, Kind::LossyNetwork]
            }
            Self::PromiseWithoutItsGiver => {
                &[Kind::AddressMisled, Kind::NodeCutFromConsul, Kind::NodesCutFromEachOther]
            }
            Self::FailsafeGapIgnored => &[Kind::NodeIsolated, Kind::NodeIsolated, Kind::StoreWiped],
            Self::FailsafeListIgnored => {
                &[Kind::AgentStopped, Kind::NodeCutFromConsul, Kind::NodesCutFromEachOther]
            }
            Self::QuorumWordDoesNotBind => &[
                Kind::AgentAndGuardFrozen,
                Kind::NodeCutFromConsul,
                Kind::NodesCutFromEachOther,
                Kind::SlowLink,
            ],
            Self::UnkillableRenewsOn => &[Kind::DiskHangs],
            Self::SystemNotAsked => {
                &[Kind::StrayPostgres, Kind::StrayPostgres, Kind::Switchover, Kind::AgentStopped]
            }
            Self::StrayNotLookedFor => &[Kind::StrayPostgres, Kind::PostgresKilled],
            Self::JobBarsLooking => {
                &[Kind::PromotedByHand, Kind::NodesCutFromEachOther, Kind::SignalRemoved]
            }
            Self::RestIsWritable => &[Kind::StrayPostgres, Kind::AgentKilled],
            Self::StandbysRestWithoutNames => &[Kind::PromotedByHand],
            Self::ReignNotRightful => {
                &[Kind::PromotedByHand, Kind::PromotedByHand, Kind::NodeCrashed, Kind::NodeIsolated]
            }
            Self::ArchiveNotSeen => &[Kind::ArchiveSlow, Kind::NodeCrashed],
            Self::RestoredCounts => {
                &[Kind::NodeCrashed, Kind::AgentStopped, Kind::NamedDataLost, Kind::NamedDataLost]
            }
            Self::PromotedBelow => {
                &[Kind::NodeCrashed, Kind::ArchiveBad, Kind::NodeCrashed, Kind::ArchiveBad]
            }
            Self::OpenNotSaid | Self::OpenRunsOut => {
                &[Kind::Pause, Kind::NodeIsolated, Kind::NodeIsolated, Kind::AgentKilled]
            }
            Self::StoppedIsStarted => &[Kind::Pause, Kind::StoppedByHand, Kind::StoppedByHand],
            Self::JobHidesHand => {
                &[Kind::Pause, Kind::StoppedByHand, Kind::StoppedByHand, Kind::SyncChanged]
            }
            Self::EntryBelieved => &[Kind::Switchover, Kind::Switchover, Kind::SlowLink],
            Self::ReadersNotSeen => &[Kind::PostgresSlow, Kind::NodeCrashed],
            Self::StrangersBelieved => {
                &[Kind::ImpostorStreams, Kind::NodesCutFromEachOther, Kind::NodeCrashed]
            }
            Self::PauseTrustsGuard => {
                &[Kind::NodeIsolated, Kind::NodeIsolated, Kind::Pause, Kind::GuardFrozen]
            }
            Self::JobBarsRace => &[Kind::NodeIsolated, Kind::NodeCrashed, Kind::NodeFrozen],
            _ => self.faults_of_revocation(),
        }
    }

    fn faults_of_revocation(self) -> &'static [Kind] {
        match self {
            Self::RevocationIgnored | Self::ReceiverNotEnded => {
                &[Kind::NodeFrozen, Kind::NodeIsolated, Kind::NodesCutFromEachOther]
            }
            Self::VanishedMadeAgain => {
                &[Kind::NodeIsolated, Kind::NodeFrozen, Kind::StatusDeleted, Kind::SessionsLost]
            }
            _ => &[],
        }
    }

    /// So many times the seeds of others it may take: what it needs comes together seldom, whatever is drawn.
    #[must_use]
    pub fn rarity(self) -> u64 {
        if self == Self::ReignNotRightful { 4 } else { 1 }
    }

    /// It shows only in a quorum, in the moment between a takeover and the voters' word.
    #[must_use]
    pub fn is_of_the_vote(self) -> bool {
        self == Self::ReignNotRightful
    }

    /// It shows only where leases are revoked.
    #[must_use]
    pub fn revokes(self) -> bool {
        matches!(
            self,
            Self::RevocationIgnored
                | Self::VanishedMadeAgain
                | Self::SuspectedByOneSign
                | Self::ReceiverNotEnded
                | Self::TermNotNoted
        )
    }

    /// The name, as `--mutations` prints it.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push(' ');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }
}
