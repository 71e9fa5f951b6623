//! Records: what is kept on many nodes, and read back from any.
//!
//! Problem: a decision that was acknowledged must be there for good, whichever nodes die next; a read
//! must not miss it; two writers at one address must both be kept, in an order that nobody
//! disputes; and the set of nodes that hold records changes while all that goes on.
//!
//! Two classes of records. A *content* is immutable and named by its hash, so any one good copy
//! answers, and only "there is none" needs many. An *address* has a set of versions, merged by union; each
//! version has a stamp of a hybrid logical clock, and the greatest is the latest. R members hold a
//! record (all of them up to seven, else three, by rendezvous hashing); a write is done when W of
//! them have it on disk, a read asks R + 1 - W of them (Gifford, "Weighted Voting for Replicated
//! Data", 1979), so the two always meet.
//!
//! Parts: `store` says what one node keeps and how it answers from it; `placement` who holds what;
//! the *replica* serves the store to coordinators; the *copier* copies what this node lacks; the
//! *coordinator* carries out what clients of this node want, on the replicas, its own among them;
//! What changes the layout is a duty of the leader, `core::duties::layout`.
//!
//! Flow of a publication where the same members hold everything: lease -> a stamp -> content and version
//! to all replicas, each of which keeps both or neither -> W have them -> lease again -> acknowledged.
//! Where content and version have different replicas the content goes first, to W of its own, and the
//! version only then. A replica refuses a version that is not greater than the newest it has, and
//! says which that is; the coordinator then stamps anew above it. Flow of a read of the latest: W
//! replicas are asked for their newest, and all if one of those is silent or they differ; once R + 1 - W have
//! answered, the greatest is the answer if W have it, and is written back to W first if not, with its
//! content.
//!
//! Flow of a publication that may have been made before: replicas are asked for the newest version of it that came in
//! order, or is the newest of all now; where W of the current set have one it is the answer. Else it is made again: a replica that has another try of it says so, and the
//! coordinator settles on the content of that one, with a new stamp. From then on no replica insists on another
//! content. Of two tries under way at once each may settle on the other's: both are acknowledged then, and a history shows
//! the last one.
//!
//! Flow of a change of the layout: the leader names the next holders. From then on a write needs its W
//! in both sets, and so does a read its R + 1 - W. Every next holder copies what it may lack from R + 1 - W
//! holders of each of its partitions, and reports. When all have, and no lease from before can still be in
//! use, the leader makes the next holders the current ones.
//!
//! Invariants:
//! 1. An acknowledgement leaves only when W replicas of every set in force have the record on disk,
//!    and while this node holds a lease.
//! 2. A write that was sent to anybody is only acknowledged or unknown, never refused, unless every holder
//!    has turned it away.
//! 3. A version that began after another one's acknowledgement is greater, whatever the clocks say.
//! 4. A read that is not marked stale held a lease, had applied what that lease says is committed, and
//!    saw every acknowledged version of its address. Nobody reads an older latest version later; a
//!    listing or a history may show a version that is not acknowledged yet, and a later one may not.
//! 5. A replica takes a write only under a lease of the same term, and answers to the layout that
//!    it knows only. Once it has answered a copy for the next layout it takes nothing for the one
//!    before.
//! 6. Nothing is stored or handed on that does not check: hash, signature, bounds, partition.
//! 7. Who has a version has its content, too, or else W of the content's replicas have it. So the content
//!    of whatever was acknowledged, or was shown as the latest by a read that is not stale, can be read.

pub mod content;
pub mod coordinator;
pub mod copier;
#[cfg(test)]
mod fixture;
pub mod placement;
pub mod replica;
pub mod store;

pub use content::{Content, ContentError, Envelope};
pub use coordinator::{Acknowledged, Coordinator, Fresh, Reply, Request};
pub use copier::Copier;
pub use replica::Replica;
