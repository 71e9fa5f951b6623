//! Faults that can be planted to prove that the simulator finds them.
//!
//! Each removes one rule that safety rests on. They exist only in builds with debug assertions
//! (the `sim` and `dev` profiles); in a release build `planted` is the constant `false`, so the
//! compiler removes every branch that asks.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! faults {
    ($($fault:ident = $number:literal $name:literal $doc:literal;)*) => {
        /// A rule to break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fault {
            $(#[doc = $doc] $fault = $number,)*
        }

        impl Fault {
            /// Every fault with the name that the command line uses.
            pub const ALL: &'static [(&'static str, Fault)] = &[$(($name, Fault::$fault)),*];
        }
    };
}

// A number is never used for another one; the seeds that find it stand in simulations/planted.txt.
faults! {
    VoteNotPersisted = 1 "vote-not-persisted" "A voter answers a vote request without having written its vote.";
    AnswerBeforeFsync = 2 "answer-before-fsync" "Log entries are reported durable before the disk has them.";
    LeaseFromArrival = 3 "lease-from-arrival" "A lease holder counts from the arrival of the answer instead of the sending of the ask.";
    RestartedVoterGrants = 4 "restarted-voter-grants" "A restarted voter grants votes at once although it forgot what it promised.";
    AckAfterLease = 5 "ack-after-lease" "A write is acknowledged although the lease ran out meanwhile.";
    AckBeforeQuorum = 6 "ack-before-quorum" "A publication is acknowledged before a majority of its replicas has it.";
    NoOrderRefusal = 7 "no-order-refusal" "A replica takes a version that is not greater than the newest it has.";
    OneSetOnly = 8 "one-set-only" "While the layout changes, a write needs the quorum of the current set only.";
    RepairWithoutLease = 9 "repair-without-lease" "A read repair goes out, and counts, without a lease.";
    RepairWithoutContent = 10 "repair-without-content" "A read repair brings a version to replicas that lack its content.";
    PassOnWholeLease = 11 "pass-on-whole-lease" "A member that passes its lease on grants a whole one instead of what is left.";
    RevokedAtOnce = 12 "revoked-at-once" "A member that has passed its lease on says at once that it holds none any more.";
    FoundOutOfOrder = 13 "found-out-of-order" "A publication counts as made on replicas that have it below what was acknowledged before.";
    OwnClock = 14 "own-clock" "A node goes by its own clock, whatever those of the others say.";
    RefusedHappens = 15 "refused-happens" "A write or publication that was sent on is refused after a while, as one that was not.";
    ListingLeavesOut = 16 "listing-leaves-out" "A listing that goes on behind an address leaves the next one out.";
    StartsUninformed = 17 "starts-uninformed" "A machine that is started again is not told what there is to know.";
    LevelBeforeAll = 18 "level-before-all" "The level of the cluster is raised while some members are of an older build.";
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
