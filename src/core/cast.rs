//! What the actors of one node tell each other.

use crate::core::records::{coordinator, copier, replica};
use crate::core::{control, election, front, gossip, keys, orchestrator, peers};

/// A message to another actor of the same node. It is never answered in place: an answer is a
/// message of its own.
#[derive(Debug)]
pub enum Cast {
    /// To the keeper of the view of the control state.
    Control(control::Msg),
    /// To the election.
    Election(election::Msg),
    /// To the front.
    Front(front::Msg),
    /// To the gossip.
    Gossip(gossip::Msg),
    /// To the orchestrator.
    Orchestrator(orchestrator::Msg),
    /// To the peers.
    Peers(peers::Msg),
    /// To the keeper of keys.
    Keys(keys::Msg),
    /// To the coordinator of records.
    Records(coordinator::Msg),
    /// To the replica.
    Replica(replica::Msg),
    /// To the copier of records.
    Copier(copier::Msg),
}

macro_rules! casts {
    ($($variant:ident($message:ty)),*) => {$(
        impl From<$message> for Cast {
            fn from(message: $message) -> Self {
                Self::$variant(message)
            }
        }
    )*};
}

casts!(
    Control(control::Msg),
    Election(election::Msg),
    Front(front::Msg),
    Gossip(gossip::Msg),
    Keys(keys::Msg),
    Orchestrator(orchestrator::Msg),
    Peers(peers::Msg),
    Records(coordinator::Msg),
    Replica(replica::Msg),
    Copier(copier::Msg)
);
