//! What can still be read of a table of which parts are missing.

use super::keys::{CONTENT_KEYS, address_of, content_key, end_of, version_of};
use super::{StoreOp, Table, TableError};
use crate::core::records::content::Content;
use crate::types::codec::decode_durable;
use crate::types::limits::UCXL_TEXT_MAX;
use crate::types::{Bytes, ContentHash};

/// Receives what was found, as an operation that puts it into another table.
pub type Emit<'a> = dyn FnMut(StoreOp) -> Result<(), TableError> + 'a;

/// Finds everything that can still be read in a table of which parts are missing, and counts the
/// places that can't be read. What is derived (digests, newest versions, generations) may
/// contradict what is left, so nothing of it is taken over; nor is a version without its content,
/// which would be handed on as if that were kept somewhere.
pub fn salvage(table: &dyn Table, emit: &mut Emit<'_>) -> Result<u64, TableError> {
    Ok(salvage_contents(table, emit)? + salvage_versions(table, table, emit)?)
}

/// The contents alone.
pub fn salvage_contents(table: &dyn Table, emit: &mut Emit<'_>) -> Result<u64, TableError> {
    walk(table, &[CONTENT_KEYS], emit)
}

/// The versions alone, as far as their contents are in another table.
pub fn salvage_versions(
    table: &dyn Table,
    contents: &dyn Table,
    emit: &mut Emit<'_>,
) -> Result<u64, TableError> {
    walk(table, b"v", &mut |op| match &op {
        StoreOp::Merge { version, .. } if content_of(contents, &version.content).is_none() => {
            Ok(())
        }
        _ => emit(op),
    })
}

fn walk(table: &dyn Table, prefix: &[u8], emit: &mut Emit<'_>) -> Result<u64, TableError> {
    let (mut unreadable, mut from, to) = (0, prefix.to_vec(), end_of(prefix));
    let mut limit = SALVAGE_ROWS;
    while from < to {
        let rows = match table.range(&from, &to, limit) {
            Ok(rows) => rows,
            // Up to the place that can't be read row by row, then behind it.
            Err(_) if limit > 1 => {
                limit = 1;
                continue;
            }
            Err(_) => {
                (unreadable, limit) = (unreadable + 1, SALVAGE_ROWS);
                from = behind(table, &from, &to);
                continue;
            }
        };
        let Some((last, _)) = rows.last() else { break };
        from.clone_from(last);
        from.push(0);
        for (key, value) in rows {
            if let Some(op) = salvaged(&key, value) {
                emit(op)?;
            }
        }
    }
    Ok(unreadable)
}

/// Rows that are looked at together.
const SALVAGE_ROWS: usize = 64;

/// Bytes of the keys of contents, and of those of versions, at most.
const CONTENT_KEY: usize = 33;
const VERSION_KEY: usize = UCXL_TEXT_MAX + 80;

/// Where to go on behind a place that can't be read, which begins at `from`. What can't be read lies
/// together, as in a block of a file, so its end is found by steps that grow by a quarter, as there
/// may be another such place further on, and then by halving the last one.
fn behind(table: &dyn Table, from: &[u8], to: &[u8]) -> Vec<u8> {
    let is_readable = |at: &[u8]| table.range(at, to, 1).is_ok();
    let ahead = (1..=from.len()).rev().filter_map(|length| {
        let (last, before) = from[..length].split_last()?;
        Some([before, &[last.checked_add(1)?]].concat())
    });
    let ahead = ahead.take_while(|at| at.as_slice() < to).find(|at| is_readable(at));
    let mut end = ahead.unwrap_or_else(|| to.to_vec());
    let shared = from.iter().zip(&end).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let (mut bytes, rest) = ([0; 16], &key[shared..]);
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        u128::from_be_bytes(bytes)
    };
    let (mut low, mut high, mut before) = (number(from), number(&end), from[..shared].to_vec());
    let longest = if from.first() == Some(&CONTENT_KEYS) { CONTENT_KEY } else { VERSION_KEY };
    let key = |before: &[u8], number: u128| [before, &number.to_be_bytes()].concat();
    let (start, mut step) = (low, 1_u128);
    while let Some(next) = start.checked_add(step).filter(|next| *next < high) {
        let at = key(&before, next);
        if is_readable(&at) {
            (high, end) = (next, at);
            break;
        }
        low = next;
        step = step.saturating_add((step / 4).max(1));
    }
    // Sixteen bytes of the key at a time.
    while before.len() < longest {
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            let at = key(&before, middle);
            if is_readable(&at) {
                (high, end) = (middle, at);
            } else {
                low = middle;
            }
        }
        before.extend(low.to_be_bytes());
        (low, high) = (0, u128::MAX);
    }
    end.max([from, &[0]].concat())
}

/// A content, if it can still be read.
fn content_of(table: &dyn Table, hash: &ContentHash) -> Option<StoreOp> {
    let key = content_key(hash);
    salvaged(&key, table.get(&key).ok()??)
}

fn salvaged(key: &[u8], value: Vec<u8>) -> Option<StoreOp> {
    if let Some(hash) = key.strip_prefix(&[CONTENT_KEYS]) {
        let hash = ContentHash(hash.try_into().ok()?);
        let content: Content = decode_durable(&value).ok()?;
        let generation = content.generation();
        return (content.hash() == hash).then_some(StoreOp::Put {
            hash,
            generation,
            content: Bytes(value),
        });
    }
    let rest = key.get(3..)?;
    let end = rest.iter().take(UCXL_TEXT_MAX).position(|byte| *byte == 0)?;
    let version = version_of(&rest[end + 1..], &value).ok()?;
    let address = address_of(&rest[..end]).ok()?;
    // Something that it has to be above may be gone.
    let vouched = None;
    version.is_of(&address).then_some(StoreOp::Merge { address, version, vouched })
}
