//! Faults that can be planted to prove that the simulator finds them.
//!
//! Each removes one rule that safety rests on. They exist only in builds with debug assertions
//! (the `sim` and `dev` profiles); in a release build `planted` is the constant `false`, so the
//! compiler removes every branch that asks.

use std::sync::atomic::{AtomicU8, Ordering};

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// A voter answers a vote request without having written its vote.
    VoteNotPersisted = 1,
    /// Log entries are reported durable before the disk has them.
    AnswerBeforeFsync = 2,
    /// A lease holder counts from the arrival of the answer instead of the sending of the ask.
    LeaseFromArrival = 3,
    /// A restarted voter grants votes at once although it forgot what it promised.
    RestartedVoterGrants = 4,
    /// A write is acknowledged although the lease ran out meanwhile.
    AckAfterLease = 5,
    /// A publication is acknowledged before a majority of its replicas has it.
    AckBeforeQuorum = 6,
    /// A replica takes a version that is not greater than the newest it has.
    NoOrderRefusal = 7,
    /// While the layout changes, a write needs the quorum of the current set only.
    OneSetOnly = 8,
    /// A read repair goes out, and counts, without a lease.
    RepairWithoutLease = 9,
    /// A read repair brings a version to replicas that lack its content.
    RepairWithoutContent = 10,
    /// A member that passes its lease on grants a whole one instead of what is left.
    PassOnWholeLease = 11,
    /// A member that has passed its lease on says at once that it holds none any more.
    RevokedAtOnce = 12,
    /// A publication counts as made on replicas that have it below what was acknowledged before.
    FoundOutOfOrder = 13,
    /// A node goes by its own clock, whatever those of the others say.
    OwnClock = 14,
    /// A write or publication that was sent on is refused after a while, as one that was not.
    RefusedHappens = 15,
    /// A listing that goes on behind an address leaves the next one out.
    ListingLeavesOut = 16,
    /// A machine that is started again is not told what there is to know.
    StartsUninformed = 17,
    /// The level of the cluster is raised while some members are of an older build.
    LevelBeforeAll = 18,
}

impl Fault {
    /// Every fault with the name that the command line uses.
    pub const ALL: [(&'static str, Fault); 18] = [
        ("vote-not-persisted", Fault::VoteNotPersisted),
        ("answer-before-fsync", Fault::AnswerBeforeFsync),
        ("lease-from-arrival", Fault::LeaseFromArrival),
        ("restarted-voter-grants", Fault::RestartedVoterGrants),
        ("ack-after-lease", Fault::AckAfterLease),
        ("ack-before-quorum", Fault::AckBeforeQuorum),
        ("no-order-refusal", Fault::NoOrderRefusal),
        ("one-set-only", Fault::OneSetOnly),
        ("repair-without-lease", Fault::RepairWithoutLease),
        ("repair-without-content", Fault::RepairWithoutContent),
        ("pass-on-whole-lease", Fault::PassOnWholeLease),
        ("revoked-at-once", Fault::RevokedAtOnce),
        ("found-out-of-order", Fault::FoundOutOfOrder),
        ("own-clock", Fault::OwnClock),
        ("refused-happens", Fault::RefusedHappens),
        ("listing-leaves-out", Fault::ListingLeavesOut),
        ("starts-uninformed", Fault::StartsUninformed),
        ("level-before-all", Fault::LevelBeforeAll),
    ];
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a fault for the rest of this process. Without debug assertions it does nothing and says
/// so by returning false.
pub fn plant(fault: Fault) -> bool {
    PLANTED.store(fault as u8, Ordering::Relaxed);
    cfg!(debug_assertions)
}

/// True while `fault` is planted.
#[inline]
pub fn planted(fault: Fault) -> bool {
    cfg!(debug_assertions) && PLANTED.load(Ordering::Relaxed) == fault as u8
}
