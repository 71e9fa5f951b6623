//! The list of machines: one line for each that runs on a member.
//!
//! From it come the messages from machine to machine ([`Cast`]), the addresses of the actors
//! (`actors::Directory`), the children of the supervision tree (`node::tree`), who is given a message
//! of another node, and [`NAMES`], which tests and the simulator go by. So a new machine is its own
//! files, its line in here and, if it speaks to other nodes, its file in `messages::wire`.
//!
//! A machine is started when those above it have loaded. The first one keeps the view that all others
//! go by: it is a child of the root, and when it fails they are started again with it.

/// Gives the list to a macro: the address, the name of its messages in [`Cast`], the machine, and which
/// kinds of messages of other nodes it hears.
macro_rules! with_machines {
    ($then:ident) => {
        $then! {
            control Control: $crate::core::control::Control, hears [];
            peers Peers: $crate::core::peers::Peers, hears [Peers];
            election Election: $crate::core::election::Election, hears [Election];
            orchestrator Orchestrator: $crate::core::orchestrator::Orchestrator, hears [Orchestrator];
            front Front: $crate::core::front::Front, hears [Front Join];
            gossip Gossip: $crate::core::gossip::Gossip, hears [Gossip];
            keys Keys: $crate::core::keys::Keys, hears [Keys];
            replica Replica: $crate::core::records::Replica, hears [Replica];
            copier Copier: $crate::core::records::Copier, hears [Copy];
            records Records: $crate::core::records::Coordinator, hears [Records];
        }
    };
}
pub(crate) use with_machines;

use crate::core::machine::Machine;

macro_rules! casts {
    ($($field:ident $variant:ident: $machine:ty, hears [$($heard:ident)*];)*) => {
        /// A message to another machine of the same node. It is never answered in place: an answer is
        /// a message of its own.
        #[derive(Debug)]
        pub enum Cast {
            $(
                #[doc = concat!("To `", stringify!($field), "`.")]
                $variant(<$machine as Machine>::Msg),
            )*
        }

        $(
            impl From<<$machine as Machine>::Msg> for Cast {
                fn from(message: <$machine as Machine>::Msg) -> Self {
                    Self::$variant(message)
                }
            }
        )*

        /// Names of all machines of a member, in the order in which they are started.
        pub const NAMES: &[&str] = &[$(<$machine as Machine>::NAME),*];
    };
}
with_machines!(casts);
