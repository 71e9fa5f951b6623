//! A snapshot that comes in parts.

use crate::types::LogId;
use crate::types::limits::SNAPSHOT_LEN_MAX;

/// The parts that have come, from the beginning on.
pub struct Assembly {
    last: Option<LogId>,
    total: usize,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Where the next part begins.
    pub fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// One part, as it was sent.
pub struct Part<'a> {
    /// Last entry that the snapshot covers.
    pub last: Option<LogId>,
    /// Bytes of the whole.
    pub total: u64,
    /// Where this part begins.
    pub offset: u64,
    /// The part.
    pub bytes: &'a [u8],
}

/// What came of a part.
pub enum Assembled {
    /// More is to come.
    More,
    /// This was the last part.
    Whole(Vec<u8>),
    /// It is no part of what is open, or of anything that may be.
    Unusable,
}

/// Adds a part to what is open; the first part begins anew. Nothing is allocated before it has come.
pub fn assemble(open: &mut Option<Assembly>, part: Part<'_>) -> Assembled {
    let total = usize::try_from(part.total).ok().filter(|total| *total <= SNAPSHOT_LEN_MAX);
    let Some(total) = total else { return Assembled::Unusable };
    if part.offset == 0 {
        *open = Some(Assembly { last: part.last, total, bytes: Vec::new() });
    }
    let fits = |open: &&mut Assembly| {
        (open.last, open.total, open.offset()) == (part.last, total, part.offset)
            && !part.bytes.is_empty()
            && open.bytes.len() + part.bytes.len() <= total
    };
    let Some(assembly) = open.as_mut().filter(fits) else { return Assembled::Unusable };
    assembly.bytes.extend_from_slice(part.bytes);
    if assembly.bytes.len() < total {
        return Assembled::More;
    }
    open.take().map_or(Assembled::Unusable, |whole| Assembled::Whole(whole.bytes))
}
