//! What nodes say to each other: one file for each component, with its messages and their versions.
//!
//! A message crosses the network as the number of its component, the version of that component, and a
//! body in bincode. Which version is spoken follows from the level of the cluster
//! ([`Level`](crate::types::Level)); what is read are the newest version and the one before. The types
//! in here are those of the newest version: code outside of this folder names no version.
//!
//! Invariants:
//! 1. No message carries its sender: that is whom the connection authenticated.
//! 2. Nothing here is trusted; whoever receives a message checks it.
//! 3. A message that decodes was read to its last byte, and no byte was allocated for before it was
//!    there.
//! 4. A message is never sent in a version that the level of the cluster does not have.

mod component;
pub mod consensus;
pub mod copy;
pub mod election;
pub mod front;
pub mod gossip;
pub mod join;
pub mod keys;
pub mod note;
pub mod orchestrator;
pub mod peers;
pub mod records;
pub mod replica;
#[cfg(test)]
mod samples;
mod speech;

pub use component::Component;
pub use consensus::{AppendReply, Entry, FollowBody, Payload, Rpc, RpcReply, VoteId, VoterConfig};
pub use copy::{CopyAnswer, CopyAsk};
pub use election::{DutyRow, DutyStep, DutyTable, Grant, LinkReport, Report, ScoreTable, Scores};
pub use gossip::{Part, StreamDigest, StreamId};
pub use note::{Note, NoteBody, SignedNote};
pub use peers::{Announcement, Hello, Turned};
pub use records::RecordsAnswer;
pub use replica::RecordsAsk;
pub use speech::Speech;

use crate::messages::Lane;
use crate::types::Level;
use crate::types::codec::CodecError;

macro_rules! components {
    ($($id:literal $variant:ident($module:ident::$message:ident);)*) => {
        $(pub use $module::$message;)*

        /// Any message between two nodes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Message {
            $(
                #[doc = concat!("Of the component `", stringify!($module), "`.")]
                $variant($module::$message),
            )*
        }

        impl Message {
            /// The lane that it travels on, unless it is large.
            pub fn lane(&self) -> Lane {
                match self {
                    $(Self::$variant(_) => <$module::$message as Component>::LANE,)*
                }
            }

            /// Its name for traces and metrics.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(message) => message.name(),)*
                }
            }

            /// Its bytes, in the version that a cluster of this level speaks.
            pub fn encode(&self, level: Level) -> Result<Vec<u8>, CodecError> {
                match self {
                    $(Self::$variant(message) => component::write($id, message, level),)*
                }
            }

            /// Reads exactly these bytes, in a version that a build of this level reads.
            pub fn decode(bytes: &[u8], build: Level) -> Result<Self, CodecError> {
                let [id, version, body @ ..] = bytes else { return Err(CodecError::Truncated) };
                match id {
                    $($id => component::read(*version, body, build).map(Self::$variant),)*
                    _ => Err(CodecError::Component(*id)),
                }
            }

            /// The name of the component with this number.
            pub fn component(id: u8) -> Option<&'static str> {
                match id {
                    $($id => Some(<$module::$message as Component>::NAME),)*
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;

            $(
                #[test]
                fn $module() {
                    let golden = include_str!(concat!("golden/", stringify!($module)));
                    let samples = <$module::$message as Component>::samples();
                    let messages: Vec<Message> = samples.into_iter().map(Message::$variant).collect();
                    samples::golden(golden, &messages);
                    samples::golden_of_before::<$module::$message>(&messages);
                    // Every variant of the file is in some sample.
                    let source = include_str!(concat!(stringify!($module), ".rs"));
                    samples::names_every_variant(source, &format!("{messages:?}"));
                }
            )*

            #[test]
            fn every_component_has_a_number_and_a_name_of_its_own() {
                let all = [$(($id, <$module::$message as Component>::NAME)),*];
                let ids: std::collections::BTreeSet<u8> = all.iter().map(|(id, _)| *id).collect();
                let names: std::collections::BTreeSet<&str> = all.iter().map(|(_, name)| *name).collect();
                assert!(ids.len() == all.len() && names.len() == all.len());
                assert!(all.iter().all(|(id, name)| Message::component(*id) == Some(*name)));
                assert_eq!(Message::component(0), None);
            }
        }
    };
}

// The number of a component is never used for another one.
components! {
    1 Peers(peers::PeersMessage);
    2 Consensus(consensus::ConsensusMessage);
    3 Election(election::ElectionMessage);
    4 Front(front::FrontMessage);
    5 Join(join::JoinMessage);
    6 Records(records::RecordsMessage);
    7 Copy(copy::CopyMessage);
    8 Keys(keys::KeysMessage);
    9 Gossip(gossip::GossipMessage);
    10 Replica(replica::ReplicaMessage);
    11 Orchestrator(orchestrator::OrchestratorMessage);
}
