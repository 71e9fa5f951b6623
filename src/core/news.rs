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
//! 1. A kind has one publisher (`core::machines` says which), and a publisher that starts tells what it starts with, unless others
//!    may go on by what its predecessor told.
//! 2. After it has started, a machine knows the newest news of each kind that it names.
//! 3. News of one kind come in the order in which they were told, and none comes after a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::cluster_time::Clocks;
use crate::core::consensus::{Quorum, Role};
use crate::core::control::{Change, View};
use crate::core::election::lease::Lease;
use crate::core::machines::with_machines;
use crate::messages::wire::{DutyTable, LinkReport};
use crate::types::host::{Capabilities, Load};
use crate::types::journal::DiskState;
use crate::types::{MemberId, Mono};

/// Entries of the log were applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// State after them.
    pub view: Arc<View>,
    /// What changed, in order. A machine that starts is told that everything may have.
    pub changes: Arc<[Change]>,
}

/// The leader was heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Which.
    pub leader: MemberId,
    /// When its message arrived.
    pub at: Mono,
}

/// What this computer is, and how busy it is.
#[derive(Clone, Debug)]
pub struct Host {
    /// What it is.
    pub capabilities: Capabilities,
    /// How busy it is.
    pub load: Load,
}

macro_rules! news {
    ($(
        $field:ident $variant:ident: $machine:ty,
        hears [$($heard:ident)*],
        tells [$($(#[doc = $doc:literal])+ $kind:ident($fact:ty))*];
    )*) => {
        /// A fact, and who tells it.
        #[derive(Clone, Debug)]
        pub enum News {
            $($(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nTold by `", stringify!($field), "`.")]
                $kind($fact),
            )*)*
        }

        /// What news are about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($($(#[doc = $doc])+ $kind,)*)*
        }

        impl News {
            /// What they are about.
            pub fn kind(&self) -> Kind {
                match self {
                    $($(Self::$kind(_) => Kind::$kind,)*)*
                }
            }
        }
    };
}
with_machines!(news);

impl News {
    /// As they are told to a machine that has missed those before them.
    fn for_whoever_starts(&self) -> Self {
        match self {
            Self::Applied(Applied { view, .. }) => Self::Applied(Applied {
                view: view.clone(),
                changes: Arc::new([Change::Installed]),
            }),
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
        bulletin.keep(&News::Applied(Applied { view: Arc::default(), changes }));
        bulletin.keep(&News::Disk(DiskState::Full));
        bulletin.keep(&News::Lease(None));
        assert_eq!(bulletin.keep(&News::Disk(DiskState::Writable)), 4);
        let (upto, news) = bulletin.newest(&[Kind::Disk, Kind::Role, Kind::Applied]);
        assert_eq!(upto, 4);
        let [News::Disk(DiskState::Writable), News::Applied(Applied { changes, .. })] = &news[..]
        else {
            panic!("{news:?}")
        };
        assert_eq!(**changes, [Change::Installed], "it has missed what changed before");
    }
}
