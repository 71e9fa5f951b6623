//! Levels: what the members of a cluster understand of each other.
//!
//! A level counts up with every release that changes a message or adds a command. Each build speaks
//! its own and the one before. The control state holds the level of the cluster, the highest that
//! every member understands: messages are sent, and commands proposed, as of that one. So members can
//! be upgraded one after the other, and nobody is told what it can't read.

use serde::{Deserialize, Serialize};

/// A level, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u8);

impl Level {
    /// The first one.
    pub const FIRST: Self = Self(1);
    /// What this build understands.
    pub const NEWEST: Self = Self(2);

    /// The oldest that a build of this level speaks, and the one for whoever is not known yet.
    pub const fn oldest_spoken(self) -> Self {
        if self.0 > Self::FIRST.0 { Self(self.0 - 1) } else { self }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
