//! Who a node is: what its data directory says, or what it becomes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::Store;
use crate::actors::store::StoreError;
use crate::core::ctx::{Rng, Write};
use crate::core::init::Values as _;
use crate::core::join::{JoinError, Joined, ROSTER_KEY, Roster};
use crate::core::keys::{ROLE_KEYS, StoredKeys};
use crate::ports::{Entropy, Journals, Keyring};
use crate::types::codec::{Durable, encode_durable};
use crate::types::journal::JournalError;
use crate::types::{Address, BootId, ClusterId, JoinTokenText, MemberId, PeerId};

const IDENTITY_KEY: &str = "identity";
const BOOT_KEY: &str = "boot";

/// Journals that a node writes once it is a member.
const MEMBERS_JOURNALS: [&str; 3] = ["consensus-log", "consensus-snapshot", "follower-state"];

/// Where a node's membership comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// It makes a cluster.
    Found {
        /// Name of the cluster.
        name: String,
    },
    /// It joins one.
    Join {
        /// The token.
        token: JoinTokenText,
        /// Where members listen.
        addresses: Vec<Address>,
    },
    /// It has one already.
    Resume,
}

/// The membership that a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub cluster_name: String,
    /// This member.
    pub member: MemberId,
    /// The key that the membership belongs to.
    pub peer: PeerId,
    /// True for the node that made the cluster.
    pub founder: bool,
}

impl Durable for NodeIdentity {
    const NAME: &'static str = "identity";
    const KIND: u8 = 8;
    const VERSION: u8 = 1;
}

#[derive(Serialize, Deserialize)]
struct BootCounter {
    starts: u64,
}

impl Durable for BootCounter {
    const NAME: &'static str = "boot counter";
    const KIND: u8 = 9;
    const VERSION: u8 = 1;
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key and the membership in the data directory do not belong together.
    #[error(
        "the data directory belongs to peer {expected}, but its key is that of {found}; restore the right node.key, or start with an empty data directory and a join token"
    )]
    OtherKey {
        /// Whose membership it is.
        expected: PeerId,
        /// Whose key it is.
        found: PeerId,
    },
    /// The token is for another cluster than the data directory.
    #[error(
        "the data directory belongs to cluster {found}, the token to {token}; use an empty data directory to join another cluster"
    )]
    OtherCluster {
        /// Cluster of the data directory.
        found: ClusterId,
        /// Cluster of the token.
        token: ClusterId,
    },
    /// There is no membership, and nothing says how to get one.
    #[error(
        "the data directory holds no membership; make a cluster with --bootstrap-mode, or join one with --join ADDR --token-file FILE"
    )]
    NotAMember,
    /// What only a member has is there, the membership is not.
    #[error(
        "the data directory holds {name}.journal but no membership: store.journal was lost or replaced, and this node can't come back as the same member; move the data directory aside and join again with a token"
    )]
    StoreLost {
        /// The journal that was found.
        name: &'static str,
    },
    /// Joining failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// An actor could not be started.
    #[error("an actor could not be started: {0}")]
    Spawn(String),
    /// The tree did not come up.
    #[error("the node could not be started: {0}")]
    Tree(String),
}

impl StartError {
    /// True if the node may have become a member, perhaps without knowing it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Join(error) => error.is_open(),
            // Admitted, it may have failed to write that down.
            Self::Store(_) | Self::Spawn(_) | Self::Tree(_) => true,
            _ => false,
        }
    }
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        Self::Store(StoreError::Journal(error))
    }
}

/// The membership in a data directory, and who else is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// It.
    pub identity: NodeIdentity,
    /// How many other members there are, as far as this node knows.
    pub others: usize,
}

/// Reads the membership in a data directory, before it matters whose key is there.
pub fn membership(journals: &dyn Journals) -> Result<Option<Membership>, StartError> {
    let store = Store::open(journals)?;
    let Some(identity) = known(&store, journals)? else { return Ok(None) };
    let roster: Roster = store.read(ROSTER_KEY)?.unwrap_or_default();
    let others = roster.members.keys().filter(|member| **member != identity.member).count();
    Ok(Some(Membership { identity, others }))
}

/// True if there is a membership in a store.
pub fn has_membership(store: &Store) -> bool {
    store.get(IDENTITY_KEY).is_some()
}

/// The membership in a store. What only a member has must not be there without it.
fn known(store: &Store, journals: &dyn Journals) -> Result<Option<NodeIdentity>, StartError> {
    let known = store.read(IDENTITY_KEY)?;
    if known.is_none() {
        for name in MEMBERS_JOURNALS {
            // Closed again at once: its owner opens it when there is a membership.
            let (_, records) = journals.open(name)?;
            if !records.is_empty() {
                return Err(StartError::StoreLost { name });
            }
        }
    }
    Ok(known)
}

/// A node that knows who it is, or how to find out.
pub struct Prepared {
    /// The node's own values.
    pub store: Arc<Store>,
    /// Its membership, if it has one.
    pub identity: Option<NodeIdentity>,
    /// The cluster that it belongs to or wants to join.
    pub cluster: ClusterId,
    /// Where the membership comes from; `Resume` if it is there.
    pub origin: Origin,
    /// How often this data directory was started, this time included.
    pub boot_counter: u64,
    /// This run.
    pub boot: BootId,
}

impl Prepared {
    /// The keys of roles, as this node stored them.
    pub fn role_keys(&self) -> Result<Option<StoredKeys>, StartError> {
        Ok(self.store.read(ROLE_KEYS)?)
    }

    /// Members as this node knew them last.
    pub fn roster(&self) -> Result<Roster, StartError> {
        Ok(self.store.read(ROSTER_KEY)?.unwrap_or_default())
    }
}

async fn write(store: &Store, writes: Vec<Write>) -> Result<(), StartError> {
    let (done, durable) = tokio::sync::oneshot::channel();
    store.write(writes, Box::new(|result| drop(done.send(result))));
    Ok(durable.await.unwrap_or(Err(JournalError::Closed))?)
}

fn entry<T: Durable>(key: &str, value: &T) -> Write {
    Write { key: key.to_owned(), value: Some(encode_durable(value)) }
}

/// Opens the node's store, counts the start, and finds out who the node is.
pub async fn prepare(
    journals: &dyn Journals,
    entropy: &dyn Entropy,
    peer: PeerId,
    origin: Origin,
) -> Result<Prepared, StartError> {
    let store = Arc::new(Store::open(journals)?);
    let known = known(&store, journals)?;
    let starts = store.read::<BootCounter>(BOOT_KEY)?.map_or(0, |boot| boot.starts) + 1;
    let mut rng = Rng::from_seed(entropy.seed());
    let mut writes = vec![entry(BOOT_KEY, &BootCounter { starts })];
    let (identity, cluster, origin) = match (known, origin) {
        (Some(known), origin) => {
            if known.peer != peer {
                return Err(StartError::OtherKey { expected: known.peer, found: peer });
            }
            if let Origin::Join { token, .. } = &origin
                && token.cluster != known.cluster
            {
                return Err(StartError::OtherCluster {
                    found: known.cluster,
                    token: token.cluster,
                });
            }
            let cluster = known.cluster;
            (Some(known), cluster, Origin::Resume)
        }
        (None, Origin::Found { name }) => {
            let cluster = ClusterId(rng.bytes());
            let identity = NodeIdentity {
                cluster,
                cluster_name: name.clone(),
                member: MemberId(1),
                peer,
                founder: true,
            };
            writes.push(entry(IDENTITY_KEY, &identity));
            (Some(identity), cluster, Origin::Found { name })
        }
        (None, Origin::Join { token, addresses }) => {
            (None, token.cluster, Origin::Join { token, addresses })
        }
        (None, Origin::Resume) => return Err(StartError::NotAMember),
    };
    write(&store, writes).await?;
    Ok(Prepared {
        store,
        identity,
        cluster,
        origin,
        boot_counter: starts,
        boot: BootId(rng.next_u64()),
    })
}

/// Makes the keys of the roles of a new cluster, once: they are on disk before it is founded.
pub async fn keep_role_keys(prepared: &Prepared, keyring: &dyn Keyring) -> Result<(), StartError> {
    if prepared.role_keys()?.is_none() {
        let keys = StoredKeys::make(keyring);
        write(&prepared.store, vec![entry(ROLE_KEYS, &keys)]).await?;
    }
    Ok(())
}

/// Stores the membership that joining gave.
pub async fn keep_membership(prepared: Prepared, joined: Joined) -> Result<Prepared, StartError> {
    let peer = joined.roster.members.get(&joined.member).map(|(peer, _)| *peer);
    let identity = NodeIdentity {
        cluster: prepared.cluster,
        cluster_name: joined.cluster_name,
        member: joined.member,
        peer: peer.ok_or(StartError::NotAMember)?,
        founder: false,
    };
    let writes = vec![entry(IDENTITY_KEY, &identity), entry(ROSTER_KEY, &joined.roster)];
    write(&prepared.store, writes).await?;
    Ok(Prepared { identity: Some(identity), origin: Origin::Resume, ..prepared })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::golden;

    #[test]
    fn golden_bytes() {
        let identity = NodeIdentity {
            cluster: ClusterId([1; 16]),
            cluster_name: "home".into(),
            member: MemberId(2),
            peer: PeerId([3; 32]),
            founder: true,
        };
        golden::durable::<NodeIdentity>(include_str!("../types/golden/identity"), &[identity]);
        let boot = BootCounter { starts: 7 };
        golden::durable::<BootCounter>(include_str!("../types/golden/boot-counter"), &[boot]);
    }
}
