//! Members, what is known of each, and the join tokens by which they come.

use std::time::Duration;

/// Up to this many members, every member votes.
pub const VOTERS_MAX: usize = 7;
/// Members in a roster.
pub const MEMBERS_MAX: usize = 1_000;
/// Join tokens that can be open at once.
pub const JOIN_TOKENS_MAX: usize = 256;
/// Uses of one join token.
pub const JOIN_TOKEN_USES_MAX: u32 = 1_000;
/// Longest life of a join token.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Peer ids that a join token names: the issuer and the voters.
pub const JOIN_TOKEN_PEERS_MAX: usize = VOTERS_MAX + 1;
/// Labels of one node.
pub const LABELS_MAX: usize = 32;
/// Bytes of a label's key, and of its value.
pub const LABEL_LEN_MAX: usize = 63;
/// Listening addresses that one node announces.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of one address in text form.
pub const ADDRESS_LEN_MAX: usize = 300;
/// Bytes of a node's display name.
pub const NODE_NAME_LEN_MAX: usize = 64;
/// Most that one holder of records weighs beside the others.
pub const HOLDER_WEIGHT_MAX: u8 = 16;
/// GPUs that one node announces.
pub const GPUS_MAX: usize = 64;
/// Bytes of the name of a GPU's model.
pub const GPU_MODEL_LEN_MAX: usize = 96;
/// Members that one node announces its distance to.
pub const LINKS_ANNOUNCED_MAX: usize = 128;
