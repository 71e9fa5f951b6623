//! The level that a node speaks: that of its cluster, as far as it knows that. `component` makes versions of it.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Message;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::codec::CodecError;

/// What a node speaks.
#[derive(Debug)]
pub struct Speech {
    build: Level,
    cluster: AtomicU8,
}

impl Speech {
    /// That of a build of this level, which does not know its cluster yet: whoever it may be a member
    /// with understands the oldest that it speaks.
    pub fn new(build: Level) -> Self {
        Self { build, cluster: AtomicU8::new(build.oldest_spoken().0) }
    }

    /// What this build understands.
    pub fn build(&self) -> Level {
        self.build
    }

    /// What the cluster speaks, as far as this node knows.
    pub fn cluster(&self) -> Level {
        Level(self.cluster.load(Ordering::Relaxed))
    }

    /// The cluster speaks this from now on.
    pub fn learn(&self, cluster: Level) {
        self.cluster.store(cluster.min(self.build).0, Ordering::Relaxed);
    }

    /// The bytes of a message. Whoever joins, and whoever is asked to let it in, may not know of each
    /// other's level.
    pub fn encode(&self, message: &Message) -> Result<Vec<u8>, CodecError> {
        let is_join = message.lane() == Lane::Join;
        message.encode(if is_join { self.build.oldest_spoken() } else { self.cluster() })
    }

    /// Reads exactly these bytes.
    pub fn decode(&self, bytes: &[u8]) -> Result<Message, CodecError> {
        Message::decode(bytes, self.build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_that_this_build_does_not_know() {
        let speech = Speech::new(Level(3));
        assert_eq!(speech.cluster(), Level(2));
        speech.learn(Level(3));
        assert_eq!(speech.cluster(), Level(3));
        speech.learn(Level(4));
        assert_eq!(speech.cluster(), Level(3));
        assert_eq!(Speech::new(Level::FIRST).cluster(), Level::FIRST);
    }
}
