//! News: the facts that many machines of a node go by.
//!
//! Problem: who leads, who answers, what was decided, whether there is a lease: every other machine
//! wants to know one of these. A machine that is told by whoever finds out has to be known there, and
//! has to find out by itself what it missed when it was started again.
//!
//! Flow: each kind has one publisher, which puts the news in its outbox. They come to every machine
//! that names the kind in [`Machine::NEWS`](crate::core::machine::Machine::NEWS), in that order, and
//! the newest of each kind stays on the node's [`Bulletin`]. A machine that starts is given what is
//! there before it is told anything else.
//!
//! Invariants:
//! 1. A kind has one publisher, and a publisher that starts tells what it starts with, unless others
//!    may go on by what its predecessor told.
//! 2. After it has started, a machine knows the newest news of each kind that it names.
//! 3. News of one kind come in the order in which they were told, and none comes after a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::cluster_time::Clocks;
use crate::core::consensus::{Quorum, Role};
use crate::core::control::{Change, View};
use crate::core::election::lease::Lease;
use crate::messages::wire::{DutyTable, LinkReport};
use crate::types::host::{Capabilities, Load};
use crate::types::journal::DiskState;
use crate::types::{MemberId, Mono};

/// A fact, and by whom it is told.
#[derive(Clone, Debug)]
pub enum News {
    /// Entries of the log were applied; told by the keeper of the view.
    Applied {
        /// State after them.
        view: Arc<View>,
        /// What changed, in order. A machine that starts is told that everything may have.
        changes: Arc<[Change]>,
    },
    /// The control state has changed, and more of it than configuration values; told by the keeper of
    /// the view.
    View(Arc<View>),
    /// Leader or voters have changed; told by the keeper of the view.
    Role(Role),
    /// This node leads, and a majority has acknowledged a round; told by the keeper of the view.
    Quorum(Quorum),
    /// The leader was heard; told by the keeper of the view.
    Heard {
        /// Which.
        leader: MemberId,
        /// When its message arrived.
        at: Mono,
    },
    /// Which members answer now, or are presumed to in a large cluster; told by the peers.
    Answering(BTreeSet<MemberId>),
    /// Which of them are connected; told by the peers.
    Linked(BTreeSet<MemberId>),
    /// What was measured of each member, once a second; told by the peers.
    Links(BTreeMap<MemberId, LinkReport>),
    /// What the clocks of the members say of each other; told by the peers.
    Clocks(Clocks),
    /// The lease of this node; told by the election.
    Lease(Option<Lease>),
    /// What the disk is good for; told with every probe of the host that the election asks for.
    Disk(DiskState),
    /// What this computer is and how busy it is; told with every such probe.
    Host(Capabilities, Load),
    /// What the duties of this leader have done and plan; told by the orchestrator.
    Duties(Arc<DutyTable>),
}

/// What news are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// See [`News::Applied`].
    Applied,
    /// See [`News::View`].
    View,
    /// See [`News::Role`].
    Role,
    /// See [`News::Quorum`].
    Quorum,
    /// See [`News::Heard`].
    Heard,
    /// See [`News::Answering`].
    Answering,
    /// See [`News::Linked`].
    Linked,
    /// See [`News::Links`].
    Links,
    /// See [`News::Clocks`].
    Clocks,
    /// See [`News::Lease`].
    Lease,
    /// See [`News::Disk`].
    Disk,
    /// See [`News::Host`].
    Host,
    /// See [`News::Duties`].
    Duties,
}

impl News {
    /// What they are about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Applied { .. } => Kind::Applied,
            Self::View(_) => Kind::View,
            Self::Role(_) => Kind::Role,
            Self::Quorum(_) => Kind::Quorum,
            Self::Heard { .. } => Kind::Heard,
            Self::Answering(_) => Kind::Answering,
            Self::Linked(_) => Kind::Linked,
            Self::Links(_) => Kind::Links,
            Self::Clocks(_) => Kind::Clocks,
            Self::Lease(_) => Kind::Lease,
            Self::Disk(_) => Kind::Disk,
            Self::Host(..) => Kind::Host,
            Self::Duties(_) => Kind::Duties,
        }
    }

    /// As they are told to a machine that has missed those before them.
    fn for_whoever_starts(&self) -> Self {
        match self {
            Self::Applied { view, .. } => {
                Self::Applied { view: view.clone(), changes: Arc::new([Change::Installed]) }
            }
            news => news.clone(),
        }
    }
}

/// The newest news of each kind.
#[derive(Default)]
pub struct Bulletin {
    told: u64,
    newest: BTreeMap<Kind, News>,
}

impl Bulletin {
    /// Keeps news in the place of older ones, and gives them a number, which rises.
    pub fn keep(&mut self, news: &News) -> u64 {
        self.told += 1;
        self.newest.insert(news.kind(), news.clone());
        self.told
    }

    /// What a machine that starts is told of these kinds, in their order, and the number of the last
    /// news that this covers.
    pub fn newest(&self, kinds: &[Kind]) -> (u64, Vec<News>) {
        let known = kinds.iter().filter_map(|kind| self.newest.get(kind));
        (self.told, known.map(News::for_whoever_starts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::control::RosterChange;

    #[test]
    fn whoever_starts_is_told_the_newest_of_what_it_wants_in_its_order() {
        let mut bulletin = Bulletin::default();
        let changes: Arc<[Change]> = Arc::new([Change::Roster(RosterChange::Changed(MemberId(1)))]);
        bulletin.keep(&News::Applied { view: Arc::default(), changes });
        bulletin.keep(&News::Disk(DiskState::Full));
        bulletin.keep(&News::Lease(None));
        assert_eq!(bulletin.keep(&News::Disk(DiskState::Writable)), 4);
        let (upto, news) = bulletin.newest(&[Kind::Disk, Kind::Role, Kind::Applied]);
        assert_eq!(upto, 4);
        let [News::Disk(DiskState::Writable), News::Applied { changes, .. }] = &news[..] else {
            panic!("{news:?}")
        };
        assert_eq!(**changes, [Change::Installed], "it has missed what changed before");
    }
}
