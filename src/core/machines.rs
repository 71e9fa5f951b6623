//! The list of machines: one line for each that runs on a member.
//!
//! From it come the messages from machine to machine ([`Cast`]), the addresses of the actors
//! (`actors::Directory`), the children of the supervision tree (`node::tree`), who is given a message
//! of another node, the news, and [`NAMES`], which tests and the simulator go by. So a new machine is its own
//! files, its line in here and, if it speaks to other nodes, its file in `messages::wire`.
//!
//! A machine is started when those above it have loaded. The first one keeps the view that all others
//! go by: it is a child of the root, and when it fails they are started again with it.

/// Gives the list to a macro: the address, the name of its messages in [`Cast`], the machine, which
/// components of other nodes' messages it hears, and which news it tells (their types are those that
/// `news` knows).
macro_rules! with_machines {
    ($then:ident) => {
        $then! {
            control Control: $crate::core::control::Control, hears [], tells [
                /// Entries of the log were applied.
                Applied(Applied)
                /// The control state has changed, and more of it than values of clients.
                View(Arc<View>)
                /// Leader or voters have changed.
                Role(Role)
                /// This node leads, and a majority has acknowledged a round.
                Quorum(Quorum)
                /// The leader was heard.
                Heard(Heard)
            ];
            peers Peers: $crate::core::peers::Peers, hears [Peers], tells [
                /// Which members answer, or are presumed to in a large cluster.
                Answering(BTreeSet<MemberId>)
                /// Which of these are connected.
                Linked(BTreeSet<MemberId>)
                /// What was measured of each member, once a second.
                Links(BTreeMap<MemberId, LinkReport>)
                /// What the clocks of the members say of each other.
                Clocks(Clocks)
            ];
            election Election: $crate::core::election::Election, hears [Election], tells [
                /// The lease of this node.
                Lease(Option<Lease>)
                /// What the disk is good for; told by every probe that the election asks for.
                Disk(DiskState)
                /// What this computer is, and how busy; told by every such probe.
                Host(Host)
            ];
            orchestrator Orchestrator: $crate::core::orchestrator::Orchestrator, hears [Orchestrator], tells [
                /// What the duties of this leader have done and plan.
                Duties(Arc<DutyTable>)
            ];
            front Front: $crate::core::front::Front, hears [Front Join], tells [];
            gossip Gossip: $crate::core::gossip::Gossip, hears [Gossip], tells [];
            keys Keys: $crate::core::keys::Keys, hears [Keys], tells [];
            replica Replica: $crate::core::records::Replica, hears [Replica], tells [];
            copier Copier: $crate::core::records::Copier, hears [Copy], tells [];
            records Records: $crate::core::records::Coordinator, hears [Records], tells [];
        }
    };
}
pub(crate) use with_machines;

use crate::core::machine::Machine;

macro_rules! casts {
    ($(
        $field:ident $variant:ident: $machine:ty,
        hears [$($heard:ident)*],
        tells [$($(#[doc = $doc:literal])+ $kind:ident($fact:ty))*];
    )*) => {
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
