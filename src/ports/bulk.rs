//! Bytes in bulk between two members: streams on connections of their own, beside those of `network`.
//!
//! Problem: a model is gigabytes, and heartbeats must not queue behind it. So its bytes go neither
//! through a mailbox nor over a connection that lanes run on.
//!
//! Flow: one side opens a stream with a header, which says what it wants -> the other side is told,
//! and takes or refuses it -> both read and write chunks -> each says its end. A half of a stream is
//! with its user, or, while something goes on, with the port: the callback gives it back.
//!
//! Invariants:
//! 1. A callback is called once: with what was asked for, or with why it was not to be had; also when
//!    the stream is cancelled, the peer is no member any more, or the node stops.
//! 2. Of each half at most one chunk is with the port, and none is taken in before its length was
//!    checked. A user that does not read makes the other end wait, and costs a bounded memory.
//! 3. `Read::End` is what the other end has said with `finish`. A stream that breaks never looks
//!    whole.
//! 4. Chunks arrive as they were written: each once, whole, in order. Whether they are what they
//!    should be is for their user to check.
//! 5. Nothing here makes a peer `Up` or `Down`, and no frame waits for it.

use std::fmt;

use crate::ports::Sink;
use crate::types::limits::{BULK_CHUNK_MAX, BULK_HEADER_MAX};
use crate::types::{Address, PeerId};

/// Why a stream is not to be had, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// It may get nothing, and give nothing.
    #[error("the peer is not a member; admit it first")]
    NotAMember,
    /// No connection came about.
    #[error("there is no direct way to the peer: {reason}; ask another member")]
    NoWay {
        /// What became of the dials, in words.
        reason: String,
    },
    /// As many streams, or connections, are open as may be.
    #[error("too much is under way; try again when something has ended")]
    Busy,
    /// The other end does not want it.
    #[error("the peer refuses: {0}")]
    Refused(Refusal),
    /// It was not sent.
    #[error("{len} bytes cannot be sent at once; send 1 to {max}")]
    Length {
        /// How many they are.
        len: usize,
        /// How many they may be.
        max: usize,
    },
    /// Something between the two, or the other end, has failed.
    #[error("the stream broke: {reason}; ask again for what is missing")]
    Broken {
        /// What happened, in words.
        reason: String,
    },
    /// Nothing went on for `BULK_STALLED`.
    #[error("the peer has stalled; ask again for what is missing, or ask another member")]
    Stalled,
    /// The other end announced what the rules do not allow.
    #[error("the peer broke the rules of the stream; ask another member")]
    Malformed,
    /// This end did that.
    #[error("it was cancelled")]
    Cancelled,
    /// Nothing more comes from this port.
    #[error("this node is shutting down")]
    Stopped,
}

impl BulkError {
    /// True if the same may work with the same peer a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy | Self::Broken { .. } | Self::Stalled => true,
            Self::Refused(why) => matches!(why, Refusal::Busy | Refusal::OtherRun),
            Self::NotAMember | Self::NoWay { .. } | Self::Length { .. } | Self::Malformed => false,
            Self::Cancelled | Self::Stopped => false,
        }
    }

    /// Checks a chunk before it is sent.
    pub fn check_chunk(chunk: &[u8]) -> Result<(), Self> {
        let (len, max) = (chunk.len(), BULK_CHUNK_MAX);
        if len == 0 || len > max { Err(Self::Length { len, max }) } else { Ok(()) }
    }

    /// Checks a header before it is sent.
    pub fn check_header(header: &[u8]) -> Result<(), Self> {
        let (len, max) = (header.len(), BULK_HEADER_MAX);
        if len > max { Err(Self::Length { len, max }) } else { Ok(()) }
    }
}

/// Why the other end does not want a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody there serves streams, or whoever does has dropped it.
    #[error("nobody serves it")]
    Unserved,
    /// It has as many open as it may.
    #[error("it is busy; try again later")]
    Busy,
    /// It takes this node for no member.
    #[error("this node is no member there")]
    NotAMember,
    /// It knows another process with the key of this node, or is one with another's.
    #[error("another process uses the same key; try again if it has just been started again")]
    OtherRun,
    /// What the header asks for is not there.
    #[error("it has not got it")]
    NotThere,
    /// The header does not say anything that is understood.
    #[error("the header is not understood")]
    Header,
}

/// A callback, called exactly once. It must not block, and may call the port.
pub type Then<T> = Box<dyn FnOnce(Result<T, BulkError>) + Send>;

/// A callback that is called even if it is forgotten: dropped, it says `Stopped`.
pub struct Once<T>(Option<Then<T>>);

impl<T> Once<T> {
    /// Watches over a callback.
    pub fn new(then: Then<T>) -> Self {
        Self(Some(then))
    }

    /// Calls it.
    pub fn give(mut self, result: Result<T, BulkError>) {
        if let Some(then) = self.0.take() {
            then(result);
        }
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(BulkError::Stopped));
        }
    }
}

/// A stream of this node, from the moment on that it was asked for. Never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BulkId(pub u64);

/// What came.
pub enum Read {
    /// The next chunk, and the half to read on with.
    Chunk(Vec<u8>, Box<dyn BulkReader>),
    /// The other end has said that this is all.
    End,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(bytes, _) => write!(f, "Chunk({} bytes)", bytes.len()),
            Self::End => f.write_str("End"),
        }
    }
}

/// The half that chunks come from. Dropped before the end, it cancels the stream.
pub trait BulkReader: Send {
    /// Waits for the next chunk, of 1 to `BULK_CHUNK_MAX` bytes.
    fn read(self: Box<Self>, then: Then<Read>);
}

/// The half that chunks go to. Dropped before `finish`, it cancels the stream.
pub trait BulkWriter: Send {
    /// Sends a chunk of 1 to `BULK_CHUNK_MAX` bytes. The half comes back when there is room for the
    /// next one, which says nothing of this one having arrived.
    fn write(self: Box<Self>, chunk: Vec<u8>, then: Then<Box<dyn BulkWriter>>);

    /// Says that this was all. That it has arrived shows in what the other end answers.
    fn finish(self: Box<Self>, then: Then<()>);
}

/// A stream that both ends have.
pub struct BulkStream {
    /// By which it can be cancelled.
    pub id: BulkId,
    /// Who is at the other end, as the connection has authenticated it.
    pub peer: PeerId,
    /// What comes.
    pub reader: Box<dyn BulkReader>,
    /// Where what goes is put.
    pub writer: Box<dyn BulkWriter>,
}

/// How a stream that somebody else opens is answered.
pub trait Answer: Send {
    /// Takes it.
    fn accept(self: Box<Self>) -> BulkStream;

    /// Says why not.
    fn refuse(self: Box<Self>, why: Refusal);
}

/// A stream that another member opens. Dropped, it is refused as `Unserved`.
pub struct Incoming {
    /// Who, as the connection has authenticated it.
    pub from: PeerId,
    /// What for: at most `BULK_HEADER_MAX` bytes, which nobody has looked at.
    pub header: Vec<u8>,
    answer: Option<Box<dyn Answer>>,
}

impl Incoming {
    /// One that waits for an answer.
    pub fn new(from: PeerId, header: Vec<u8>, answer: Box<dyn Answer>) -> Self {
        Self { from, header, answer: Some(answer) }
    }

    /// Takes it.
    pub fn accept(mut self) -> BulkStream {
        self.answer.take().expect("whoever answers gives it away").accept()
    }

    /// Says why not.
    pub fn refuse(mut self, why: Refusal) {
        if let Some(answer) = self.answer.take() {
            answer.refuse(why);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.refuse(Refusal::Unserved);
        }
    }
}

/// Bulk bytes of one node.
pub trait Bulk: Send + Sync + 'static {
    /// Names who is told of streams that others open; replaces the earlier one. Before, all are
    /// refused.
    fn serve(&self, sink: Sink<Incoming>);

    /// Opens a stream to a member, which the roster says is at these addresses; others that are known
    /// are tried as well. The header is at most `BULK_HEADER_MAX` bytes, and may be empty. What cannot
    /// be is said before this returns.
    fn open(&self, to: PeerId, at: Vec<Address>, header: Vec<u8>, then: Then<BulkStream>)
    -> BulkId;

    /// Ends a stream of this node at once, also one that is being opened. Whatever waits for it is told
    /// `Cancelled`, and the other end that it broke. One that is over is let be.
    fn cancel(&self, stream: BulkId);
}

/// Knows no way to anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBulk;

impl Bulk for NoBulk {
    fn serve(&self, _: Sink<Incoming>) {}

    fn open(&self, _: PeerId, _: Vec<Address>, _: Vec<u8>, then: Then<BulkStream>) -> BulkId {
        then(Err(BulkError::NoWay { reason: "there is no network".to_owned() }));
        BulkId(0)
    }

    fn cancel(&self, _: BulkId) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::types::Lock;

    type Said<T> = Arc<Mutex<Vec<T>>>;

    struct Told(Said<Option<Refusal>>);

    impl Answer for Told {
        fn accept(self: Box<Self>) -> BulkStream {
            self.0.locked().push(None);
            struct Nothing;
            impl BulkReader for Nothing {
                fn read(self: Box<Self>, _: Then<Read>) {}
            }
            impl BulkWriter for Nothing {
                fn write(self: Box<Self>, _: Vec<u8>, _: Then<Box<dyn BulkWriter>>) {}
                fn finish(self: Box<Self>, _: Then<()>) {}
            }
            let (reader, writer) = (Box::new(Nothing), Box::new(Nothing));
            BulkStream { id: BulkId(1), peer: PeerId([1; 32]), reader, writer }
        }

        fn refuse(self: Box<Self>, why: Refusal) {
            self.0.locked().push(Some(why));
        }
    }

    #[test]
    fn a_callback_is_called_once_also_if_it_is_forgotten() {
        let said = Said::<Result<u8, BulkError>>::default();
        let once = || {
            let said = said.clone();
            Once::new(Box::new(move |result| said.locked().push(result)))
        };
        once().give(Ok(7));
        drop(once());
        assert_eq!(*said.locked(), [Ok(7), Err(BulkError::Stopped)]);
    }

    #[test]
    fn a_stream_of_another_member_is_answered_once_also_if_it_is_forgotten() {
        let said = Said::default();
        let incoming = || Incoming::new(PeerId([1; 32]), Vec::new(), Box::new(Told(said.clone())));
        drop(incoming().accept());
        incoming().refuse(Refusal::NotThere);
        drop(incoming());
        assert_eq!(*said.locked(), [None, Some(Refusal::NotThere), Some(Refusal::Unserved)]);
    }

    #[test]
    fn lengths_are_checked_at_their_bounds() {
        let length = |len, max| Err(BulkError::Length { len, max });
        assert_eq!(BulkError::check_chunk(&[]), length(0, BULK_CHUNK_MAX));
        assert_eq!(BulkError::check_chunk(&vec![0; BULK_CHUNK_MAX]), Ok(()));
        let long = vec![0; BULK_CHUNK_MAX + 1];
        assert_eq!(BulkError::check_chunk(&long), length(long.len(), BULK_CHUNK_MAX));
        assert_eq!(BulkError::check_header(&[]), Ok(()));
        assert_eq!(BulkError::check_header(&vec![0; BULK_HEADER_MAX]), Ok(()));
        let long = vec![0; BULK_HEADER_MAX + 1];
        assert_eq!(BulkError::check_header(&long), length(long.len(), BULK_HEADER_MAX));
    }
}
