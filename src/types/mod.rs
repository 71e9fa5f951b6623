//! Ids, clocks, addresses, limits and codecs: the vocabulary that every layer shares.
//!
//! Nothing here does I/O, reads a clock or draws randomness; every type can be built, printed,
//! parsed and compared on its own.

pub mod address;
pub mod bytes;
pub mod codec;
pub mod cursor;
pub mod fault;
#[cfg(test)]
pub mod golden;
pub mod host;
pub mod ids;
pub mod journal;
pub mod key_kind;
pub mod level;
pub mod limits;
pub mod lock;
pub mod metrics;
pub mod recipient;
pub mod record;
pub mod role;
pub mod time;
pub mod token;
pub mod ucxl;

pub use address::Address;
pub use bytes::Bytes;
pub use cursor::{CursorError, Listing};
pub use ids::{
    BodyHash, BootId, ClusterId, ContentHash, LogId, MemberId, PeerId, PlaceHash, ProposalId,
    RequestId, Term, TokenId,
};
pub use key_kind::KeyKind;
pub use level::Level;
pub use lock::Lock;
pub use recipient::{KeyError, Recipient};
pub use time::{Mono, Wall};
pub use token::JoinTokenText;
