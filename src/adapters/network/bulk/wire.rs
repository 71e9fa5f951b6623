//! What goes over a stream: a greeting, its answer, and chunks until the end is said.
//!
//! ```text
//! opener   -> acceptor   u64 run, u16 length of the header, header
//! acceptor -> opener     u8 answer (0 taken, others say why not), u64 run
//! both ways              u32 length (1 to BULK_CHUNK_MAX), bytes ...   u32 0: the end
//! ```
//!
//! Numbers are little endian. The version is in the name of the protocol.
//!
//! Invariant: nothing is allocated for a length that was not checked. That a stream ends is said: a
//! multiplexer whose stream is dropped may close it as if it were complete.

use std::io;

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ports::bulk::Refusal;
use crate::types::limits::{BULK_CHUNK_MAX, BULK_HEADER_MAX};

/// What each number stands for never changes.
const REFUSALS: [(u8, Refusal); 6] = [
    (1, Refusal::Unserved),
    (2, Refusal::Busy),
    (3, Refusal::NotAMember),
    (4, Refusal::OtherRun),
    (5, Refusal::NotThere),
    (6, Refusal::Header),
];

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Says who opens a stream, and what for.
pub async fn write_greeting<S>(stream: &mut S, run: u64, header: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let len = u16::try_from(header.len()).map_err(|_| malformed())?;
    let greeting = [&run.to_le_bytes()[..], &len.to_le_bytes(), header].concat();
    stream.write_all(&greeting).await?;
    stream.flush().await
}

/// The run at the other end, and the header.
pub async fn read_greeting<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u64, Vec<u8>)> {
    let (mut run, mut len) = ([0; 8], [0; 2]);
    stream.read_exact(&mut run).await?;
    stream.read_exact(&mut len).await?;
    let len = usize::from(u16::from_le_bytes(len));
    if len > BULK_HEADER_MAX {
        return Err(malformed());
    }
    let mut header = vec![0; len];
    stream.read_exact(&mut header).await?;
    Ok((u64::from_le_bytes(run), header))
}

/// Takes a stream, or says why not.
pub async fn write_answer<S>(stream: &mut S, refusal: Option<Refusal>, run: u64) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let known = |why| REFUSALS.iter().find(|(_, known)| *known == why).map_or(1, |(code, _)| *code);
    let answer = [&[refusal.map_or(0, known)][..], &run.to_le_bytes()].concat();
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// Why it was refused, if it was, and the run at the other end.
pub async fn read_answer<S>(stream: &mut S) -> io::Result<(Option<Refusal>, u64)>
where
    S: AsyncRead + Unpin,
{
    let (mut answer, mut run) = ([0; 1], [0; 8]);
    stream.read_exact(&mut answer).await?;
    stream.read_exact(&mut run).await?;
    let known = |code| REFUSALS.iter().find(|(known, _)| *known == code).map(|(_, why)| *why);
    let refusal = match answer {
        [0] => None,
        // A later build may have more reasons.
        [code] => Some(known(code).unwrap_or(Refusal::Unserved)),
    };
    Ok((refusal, u64::from_le_bytes(run)))
}

/// Sends a chunk, of which the length was checked.
pub async fn write_chunk<S: AsyncWrite + Unpin>(stream: &mut S, chunk: &[u8]) -> io::Result<()> {
    let len = u32::try_from(chunk.len()).map_err(|_| malformed())?;
    stream.write_all(&len.to_le_bytes()).await?;
    stream.write_all(chunk).await
}

/// Says that this was all.
pub async fn write_end<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&0u32.to_le_bytes()).await?;
    // Not closed: of a stream that was, and is dropped, the multiplexer tells the other end nothing.
    stream.flush().await
}

/// The length of the next chunk; none at the end that was said.
pub async fn read_len<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<usize>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    match u32::from_le_bytes(len) as usize {
        0 => Ok(None),
        len if len > BULK_CHUNK_MAX => Err(malformed()),
        len => Ok(Some(len)),
    }
}

/// Fills a chunk.
pub async fn read_chunk<S: AsyncRead + Unpin>(stream: &mut S, chunk: &mut [u8]) -> io::Result<()> {
    stream.read_exact(chunk).await
}

#[cfg(test)]
mod tests {
    use futures_util::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn the_bytes_of_a_stream_stay_as_they_are() {
        let mut out = Cursor::new(Vec::new());
        write_greeting(&mut out, 0x0102, b"model").await.unwrap();
        write_answer(&mut out, None, 0x0304).await.unwrap();
        for (_, why) in REFUSALS {
            write_answer(&mut out, Some(why), 5).await.unwrap();
        }
        write_chunk(&mut out, b"ab").await.unwrap();
        write_end(&mut out).await.unwrap();
        let hex: String = out.into_inner().iter().map(|byte| format!("{byte:02x}")).collect();
        let refusals: String = (1..=6).map(|code| format!("{code:02x}0500000000000000")).collect();
        let start = "020100000000000005006d6f64656c000403000000000000";
        assert_eq!(hex, format!("{start}{refusals}02000000616200000000"));
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_a_later_reason_is_none_that_is_known() {
        let mut out = Cursor::new(Vec::new());
        let header = vec![7; BULK_HEADER_MAX];
        write_greeting(&mut out, u64::MAX, &header).await.unwrap();
        for (_, why) in REFUSALS {
            write_answer(&mut out, Some(why), 5).await.unwrap();
        }
        out.write_all(&[200, 1, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut from = Cursor::new(out.into_inner());
        assert_eq!(read_greeting(&mut from).await.unwrap(), (u64::MAX, header));
        for (_, why) in REFUSALS {
            assert_eq!(read_answer(&mut from).await.unwrap(), (Some(why), 5));
        }
        assert_eq!(read_answer(&mut from).await.unwrap(), (Some(Refusal::Unserved), 1));
    }

    #[tokio::test]
    async fn lengths_are_checked_before_anything_is_allocated() {
        let kind = |bytes: Vec<u8>| async move {
            read_len(&mut Cursor::new(bytes)).await.map_err(|error| error.kind())
        };
        let of = |len: usize| (len as u32).to_le_bytes().to_vec();
        assert_eq!(kind(of(0)).await, Ok(None));
        assert_eq!(kind(of(BULK_CHUNK_MAX)).await, Ok(Some(BULK_CHUNK_MAX)));
        assert_eq!(kind(of(BULK_CHUNK_MAX + 1)).await, Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(vec![255; 4]).await, Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(vec![1, 0]).await, Err(io::ErrorKind::UnexpectedEof));
        let len = (BULK_HEADER_MAX as u16 + 1).to_le_bytes();
        let greeting = [&[0; 8][..], &len].concat();
        let read = read_greeting(&mut Cursor::new(greeting)).await;
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
    }
}
