//! What a machine is made from, when its node starts and again after it has failed.

use std::sync::Arc;

use crate::core::election;
use crate::core::overlay::Shape;
use crate::core::records::store::{Kept, StoreFault};
use crate::crypto::{Keyring, Vault};
use crate::messages::Command;
use crate::messages::wire::Announcement;
use crate::types::codec::{CodecError, Durable, decode_durable};
use crate::types::host::Capabilities;
use crate::types::{BootId, ClusterId, Level, MemberId, Mono, PeerId};

/// How the machines of a node are configured.
#[derive(Clone)]
pub struct Settings {
    /// What the node announces, but for the capabilities, which are probed.
    pub announcement: Announcement,
    /// Weights and times of the election.
    pub election: election::Settings,
    /// Whom the node keeps connections to in a large cluster.
    pub shape: Shape,
    /// What this build understands.
    pub level: Level,
    /// The command that makes the cluster, on the node that is to make it.
    pub founding: Option<Command>,
}

/// Which run of which member a machine belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// How often its data directory was started, this time included.
    pub boot_counter: u64,
    /// Drawn at random by this start.
    pub boot: BootId,
}

/// The node's own values, as they are on disk.
pub trait Values {
    /// A value.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// Keys with a prefix, and their values, in order.
    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)>;
}

/// A value of a known type, none if it is not there.
pub fn read<T: Durable>(values: &dyn Values, key: &str) -> Result<Option<T>, CodecError> {
    values.get(key).map(|bytes| decode_durable(&bytes)).transpose()
}

/// What a machine is made from.
pub struct Init<'a> {
    /// When it starts.
    pub now: Mono,
    /// Whose it is.
    pub run: Run,
    /// How it is configured.
    pub settings: &'a Settings,
    /// The node's own values.
    pub values: &'a dyn Values,
    /// The node's own key.
    pub vault: &'a Arc<dyn Vault>,
    /// Keys for contents.
    pub keyring: &'a Arc<dyn Keyring>,
    /// Probes this computer.
    pub capabilities: &'a dyn Fn() -> Capabilities,
    /// Opens the record store, and says how much it has of what it once had.
    pub open_records: &'a dyn Fn() -> Result<Kept, StoreFault>,
}
