//! How a node stands: whether it may write now, and why not.
//!
//! Front and records ask the same questions, and answer clients with the same refusals.
//!
//! Invariants:
//! 1. Without a lease nobody writes.
//! 2. A refusal names what is wrong now, the disk first, then the missing majority, then the leader.
//! 3. While it is not known what time it is, nothing is stamped with one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::cluster_time::Clocks;
use crate::core::consensus::Role;
use crate::core::control::View;
use crate::core::election::lease::Lease;
use crate::core::news::{Applied, Kind, News};
use crate::core::refusal::Refusal;
use crate::types::journal::DiskState;
use crate::types::limits::LEASE_LAG_MAX_MS;
use crate::types::{MemberId, Mono};

/// How a node stands.
#[derive(Debug)]
pub struct Standing {
    /// This member.
    pub own: MemberId,
    /// Newest view.
    pub view: Arc<View>,
    /// Newest role.
    pub role: Role,
    /// Which members answer now.
    pub answering: BTreeSet<MemberId>,
    /// What the disk is good for.
    pub disk: DiskState,
    /// What the clocks of the members say of each other.
    pub clocks: Clocks,
    lease: Option<Lease>,
    behind_since: Option<Mono>,
}

impl Standing {
    /// A member that knows nothing yet.
    pub fn new(own: MemberId) -> Self {
        Self {
            own,
            view: Arc::default(),
            role: Role::default(),
            answering: BTreeSet::new(),
            disk: DiskState::default(),
            clocks: Clocks::default(),
            lease: None,
            behind_since: None,
        }
    }

    /// The lease, if it can be used now.
    pub fn lease(&self, now: Mono) -> Option<Lease> {
        self.lease.filter(|lease| lease.is_valid(now))
    }

    /// The lease that was told last, whether or not it can still be used.
    pub fn last_lease(&self) -> Option<Lease> {
        self.lease
    }

    /// What it wants to know.
    pub const NEWS: &[Kind] =
        &[Kind::Applied, Kind::Role, Kind::Answering, Kind::Lease, Kind::Disk, Kind::Clocks];

    /// Takes news in.
    pub fn on_news(&mut self, now: Mono, news: &News) {
        match news {
            News::Applied(Applied { view, .. }) | News::View(view) => {
                self.on_view(now, view.clone())
            }
            News::Role(role) => self.role = role.clone(),
            News::Answering(members) => self.answering = members.clone(),
            News::Lease(lease) => self.on_lease(now, *lease),
            News::Disk(disk) => self.disk = *disk,
            News::Clocks(clocks) => self.clocks = clocks.clone(),
            _ => {}
        }
    }

    /// The lease changed.
    fn on_lease(&mut self, now: Mono, lease: Option<Lease>) {
        self.lease = lease;
        self.note_lag(now);
    }

    /// Entries were applied.
    fn on_view(&mut self, now: Mono, view: Arc<View>) {
        self.view = view;
        self.note_lag(now);
    }

    fn note_lag(&mut self, now: Mono) {
        let behind = self.lease.is_some_and(|lease| lease.committed > self.view.index());
        self.behind_since = if behind { self.behind_since.or(Some(now)) } else { None };
    }

    /// True if this node has been behind what its lease says is committed for too long.
    pub fn is_behind(&self, now: Mono) -> bool {
        self.behind_since
            .is_some_and(|since| now.since(since) > Duration::from_millis(LEASE_LAG_MAX_MS))
    }

    /// Voters that answer, voters that a majority needs, and all voters.
    pub fn quorum(&self) -> (usize, usize, usize) {
        let answers = |voter: &&MemberId| self.answers(**voter);
        let reachable = self.role.voters.iter().filter(answers).count();
        (reachable, self.role.voters.len() / 2 + 1, self.role.voters.len())
    }

    /// True for this member and those that answer it.
    pub fn answers(&self, member: MemberId) -> bool {
        member == self.own || self.answering.contains(&member)
    }

    /// Why no write can be taken now.
    pub fn refusal(&self) -> Refusal {
        self.disk_refusal().or_else(|| self.minority()).unwrap_or(Refusal::NoLeader)
    }

    /// Why no write can be taken, if that is because too few voters answer.
    pub fn minority(&self) -> Option<Refusal> {
        let (reachable, needed, voters) = self.quorum();
        (voters > 0 && reachable < needed).then_some(Refusal::Minority {
            reachable,
            needed,
            voters,
        })
    }

    /// True if it is known what time it is: how this node's clock stands to those of the other voters, and most agree.
    pub fn knows_time(&self) -> bool {
        self.clocks.is_known() || self.role.voters.iter().eq([&self.own])
    }

    /// Why nothing can be stamped, if the clocks were compared and no majority agrees. Only setting them helps, so
    /// nobody waits for that.
    pub fn split_refusal(&self) -> Option<Refusal> {
        let ahead_s = self.clocks.split_ms? / 1_000;
        Some(Refusal::ClockWrong { ahead_s })
    }

    /// Why nothing can be stamped, for whatever reason.
    pub fn clock_refusal(&self) -> Option<Refusal> {
        let refusal = || self.split_refusal().unwrap_or(Refusal::ClockUnknown);
        (!self.knows_time()).then(refusal)
    }

    /// Why this node could not keep what it takes on.
    pub fn disk_refusal(&self) -> Option<Refusal> {
        match self.disk {
            DiskState::Writable => None,
            DiskState::Full => Some(Refusal::DiskFull),
            DiskState::Failed => Some(Refusal::DiskFailed),
        }
    }
}
