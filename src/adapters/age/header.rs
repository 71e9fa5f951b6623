//! The header of an age file (age-encryption.org/v1), by the letter.
//!
//! Problem: the library takes headers that are none. A recipient without its last line, or without
//! its body, opens with it, as very old files were written so, and nowhere else. What one reader
//! takes and another one refuses is two files in one. So a header is checked here, line by line,
//! before the library sees it. The library also parses a header anew for each of its lines, and
//! gets none that is longer than a header may be.
//!
//! Grammar, in which each line ends with one line feed and nothing else:
//!
//! ```text
//! header    = version 1*recipient end
//! version   = "age-encryption.org/v1"
//! recipient = "->" 1*(" " argument)       the first argument is the kind
//!             *full last
//! argument  = 1*(any of the characters 33 to 126)
//! full      = 64 characters of base64
//! last      = 0 to 63 characters of base64
//! end       = "--- " 43 characters of base64
//! base64    = without padding, and with no bit set that stands for nothing
//! ```
//!
//! A recipient of the kind `scrypt`, a passphrase, is alone.
//!
//! States: `Version`, `Recipient` (the first one), `RecipientOrEnd`, `Body`.
//!
//! Invariants:
//! 1. Nothing behind the header is read.
//! 2. At most `HEADER_LEN_MAX` bytes are kept, and at most `STANZAS_MAX` recipients are taken.

use std::io::{BufRead, Read};

use data_encoding::BASE64_NOPAD;

use super::RECIPIENTS_PER_FILE_MAX;
use super::error::{AgeError, Damage, unreadable};
use super::kinds::PASSPHRASE;

/// How a header of any version begins.
pub(super) const MAGIC: &[u8] = b"age-encryption.org/";
/// The first line of a header of the version that is read.
const VERSION: &[u8] = b"age-encryption.org/v1";
/// Characters that may name another version.
const VERSION_LEN_MAX: usize = 16;
/// How the last line of a header begins.
const END: &[u8] = b"--- ";
/// Characters of base64 that follow it: 32 bytes.
const MAC_LEN: usize = 43;
/// How a recipient begins.
const RECIPIENT: &[u8] = b"-> ";
/// Characters of a line of the body of a recipient, but for the last one.
const COLUMNS: usize = 64;
/// Recipients of one file at most: those that it is for, and one that means nothing, which
/// libraries add so that readers get used to what they do not know.
const STANZAS_MAX: usize = RECIPIENTS_PER_FILE_MAX + 1;
/// Bytes of a header: an X25519 recipient takes 98.
const HEADER_LEN_MAX: usize = 512 + 128 * RECIPIENTS_PER_FILE_MAX;

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It is of another version.
    #[error("its version is not v1")]
    Version,
    /// A line of it is not what it has to be.
    #[error("its header is malformed: line {line} {reason}")]
    Line {
        /// Number of the line, from one.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It ends before its last line does.
    #[error("its header is cut short in line {0}")]
    CutShort(usize),
    /// It does not end.
    #[error("its header does not end within {HEADER_LEN_MAX} bytes")]
    TooLong,
    /// It has too many recipients.
    #[error("its header is for more than {RECIPIENTS_PER_FILE_MAX} recipients")]
    TooManyRecipients,
    /// Somebody beside a passphrase.
    #[error("its header is malformed: a passphrase does not stand alone in it")]
    PassphraseNotAlone,
    /// A recipient of the kind that is read here is none.
    #[error("its header is malformed: a recipient in it is none")]
    Recipient,
    /// Nothing follows it.
    #[error("it is cut short right after its header")]
    NoContents,
}

/// What the next line has to be.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Version,
    Recipient,
    RecipientOrEnd,
    Body,
}

/// Takes the lines of a header, one after the other.
#[derive(Debug)]
struct Grammar {
    expected: Expected,
    lines: usize,
    stanzas: usize,
    has_passphrase: bool,
}

impl Grammar {
    fn new() -> Self {
        Self { expected: Expected::Version, lines: 0, stanzas: 0, has_passphrase: false }
    }

    fn fault(&self, reason: &'static str) -> HeaderFault {
        HeaderFault::Line { line: self.lines, reason }
    }

    /// Takes a line without its line feed. True if it was the last one.
    fn line(&mut self, line: &[u8]) -> Result<bool, HeaderFault> {
        self.lines += 1;
        if line.contains(&b'\r') {
            return Err(self.fault("has a carriage return, as a transfer in text mode adds it"));
        }
        match self.expected {
            Expected::Version => self.version(line)?,
            Expected::RecipientOrEnd if line.starts_with(b"---") => {
                self.end(line)?;
                return Ok(true);
            }
            Expected::Recipient | Expected::RecipientOrEnd => self.recipient(line)?,
            Expected::Body => self.body(line)?,
        }
        Ok(false)
    }

    fn version(&mut self, line: &[u8]) -> Result<(), HeaderFault> {
        if line != VERSION {
            let version = line.strip_prefix(MAGIC).unwrap_or_default();
            return Err(match is_argument(version) && version.len() <= VERSION_LEN_MAX {
                true => HeaderFault::Version,
                false => self.fault("is not age-encryption.org/v1"),
            });
        }
        self.expected = Expected::Recipient;
        Ok(())
    }

    fn recipient(&mut self, line: &[u8]) -> Result<(), HeaderFault> {
        let Some(arguments) = line.strip_prefix(RECIPIENT) else {
            return Err(self.fault(match self.expected {
                Expected::Recipient => "is no recipient, and a file is for at least one",
                _ => "is neither a recipient nor the end of the header",
            }));
        };
        if !arguments.split(|byte| *byte == b' ').all(is_argument) {
            return Err(self.fault("has an argument that is empty or not of printable characters"));
        }
        let kind = arguments.split(|byte| *byte == b' ').next();
        self.has_passphrase |= kind == Some(PASSPHRASE.as_bytes());
        self.stanzas += 1;
        if self.stanzas > STANZAS_MAX {
            return Err(HeaderFault::TooManyRecipients);
        }
        self.expected = Expected::Body;
        Ok(())
    }

    fn body(&mut self, line: &[u8]) -> Result<(), HeaderFault> {
        if line.starts_with(b"-") {
            return Err(
                self.fault("stands where the recipient before it should have its last line")
            );
        }
        if line.len() > COLUMNS {
            return Err(self.fault("has more than 64 characters"));
        }
        if !is_base64(line) {
            return Err(self.fault("is not canonical base64 without padding"));
        }
        if line.len() < COLUMNS {
            self.expected = Expected::RecipientOrEnd;
        }
        Ok(())
    }

    fn end(&self, line: &[u8]) -> Result<(), HeaderFault> {
        let mac = line.strip_prefix(END).filter(|mac| mac.len() == MAC_LEN && is_base64(mac));
        if mac.is_none() {
            return Err(self.fault("is not the end of a header"));
        }
        if self.has_passphrase && self.stanzas > 1 {
            return Err(HeaderFault::PassphraseNotAlone);
        }
        Ok(())
    }
}

fn is_argument(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
}

/// True for base64 of at most a line. The decoder takes no padding and no bits that stand for
/// nothing.
fn is_base64(digits: &[u8]) -> bool {
    let mut bytes = [0; COLUMNS / 4 * 3];
    let length = BASE64_NOPAD.decode_len(digits.len()).ok();
    let room = length.and_then(|length| bytes.get_mut(..length));
    room.is_some_and(|room| BASE64_NOPAD.decode_mut(digits, room).is_ok())
}

/// Reads the header of a file and nothing behind it.
pub(super) fn read(input: &mut impl BufRead) -> Result<Vec<u8>, AgeError> {
    let (mut header, mut grammar) = (Vec::new(), Grammar::new());
    let mut bounded = input.take(HEADER_LEN_MAX as u64);
    loop {
        let begin = header.len();
        let cut_short = HeaderFault::CutShort(grammar.lines + 1);
        let read = bounded.read_until(b'\n', &mut header);
        read.map_err(|error| unreadable(error, Damage::Header(cut_short)))?;
        let Some(line) = header[begin..].strip_suffix(b"\n") else {
            // What does not even begin as a header is none, however long it is.
            if begin == 0 && bounded.limit() == 0 {
                grammar.line(&header)?;
            }
            let fault = if bounded.limit() == 0 { HeaderFault::TooLong } else { cut_short };
            return Err(fault.into());
        };
        if grammar.line(line)? {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "age-encryption.org/v1\n";
    const MAC: &str = "--- WyJp9F/9FOZh7gJdheq2V0IJcwHgYc8NIVh3ddwhrcM\n";

    fn full(columns: usize) -> String {
        "A".repeat(columns) + "\n"
    }

    /// What was read of it and what was left, or why it is no header.
    fn reading(text: &str) -> Result<(usize, usize), String> {
        let mut input = text.as_bytes();
        let header = read(&mut input).map_err(|error| error.to_string())?;
        Ok((header.len(), input.len()))
    }

    #[test]
    fn just_the_header_is_read() {
        for recipients in [
            "-> X25519 abc\nAAAA\n".to_owned(),
            "-> X25519\n\n".to_owned(),
            "-> !\"#$%&' {|}~\nAAAA\n-> x\nAA\n".to_owned(),
            format!("-> a b c\n{}{}\n", full(64), full(64)),
            format!("-> a b c\n{}{}", full(64), full(63)),
            "-> scrypt abc 18\nAAAA\n".to_owned(),
        ] {
            let header = format!("{BEGIN}{recipients}{MAC}");
            let read = reading(&format!("{header}contents\n"));
            assert_eq!(read, Ok((header.len(), 9)), "{header}");
        }
    }

    #[test]
    fn each_line_is_what_it_has_to_be() {
        for (header, line, reason) in [
            (format!("{BEGIN}{MAC}"), 2, "is no recipient"),
            (format!("{BEGIN}\n{MAC}"), 2, "is no recipient"),
            (format!("{BEGIN}->\n\n{MAC}"), 2, "is no recipient"),
            (format!("{BEGIN}->  X\n\n{MAC}"), 2, "an argument that is empty"),
            (format!("{BEGIN}-> X \n\n{MAC}"), 2, "an argument that is empty"),
            (format!("{BEGIN}-> \n\n{MAC}"), 2, "an argument that is empty"),
            (format!("{BEGIN}-> X\u{7f}\n\n{MAC}"), 2, "not of printable characters"),
            (format!("{BEGIN}-> X \u{e9}\n\n{MAC}"), 2, "not of printable characters"),
            (format!("{BEGIN}-> X\r\n\n{MAC}"), 2, "a carriage return"),
            (format!("{BEGIN}-> X\n{MAC}"), 3, "should have its last line"),
            (format!("{BEGIN}-> X\n-> Y\n\n{MAC}"), 3, "should have its last line"),
            (format!("{BEGIN}-> X\n{}{MAC}", full(64)), 4, "should have its last line"),
            (format!("{BEGIN}-> X\n{}\n{MAC}", full(65)), 3, "more than 64"),
            (format!("{BEGIN}-> X\n{}{}{MAC}", full(62), full(4)), 4, "neither a recipient nor"),
            (format!("{BEGIN}-> X\nAA==\n{MAC}"), 3, "canonical base64"),
            (format!("{BEGIN}-> X\nAB\n{MAC}"), 3, "canonical base64"),
            (format!("{BEGIN}-> X\nA\n{MAC}"), 3, "canonical base64"),
            (format!("{BEGIN}-> X\nA A\n{MAC}"), 3, "canonical base64"),
            (format!("{BEGIN}-> X\n\n---\n"), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n--- \n"), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n-- {MAC}"), 4, "neither a recipient nor"),
            (format!("{BEGIN}-> X\n\n{}", MAC.replace("rcM", "rcN")), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n{}", MAC.replace("rcM", "rc")), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n{}", MAC.replace("rcM", "rcM ")), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n{}", MAC.replace("--- ", "---  ")), 4, "not the end"),
            (format!("{BEGIN}-> X\n\n{}", MAC.replace('\n', "\r\n")), 4, "a carriage return"),
            (BEGIN.replace('\n', "\r\n"), 1, "a carriage return"),
            (format!("age-encryption.org/\n-> X\n\n{MAC}"), 1, "is not age-encryption.org/v1"),
        ] {
            let error = reading(&header).unwrap_err();
            assert!(error.contains(&format!("malformed: line {line} ")), "{header}: {error}");
            assert!(error.contains(reason), "{header}: {error}");
        }
    }

    #[test]
    fn a_header_is_whole_of_this_version_and_for_those_who_go_together() {
        let whole = format!("{BEGIN}-> X25519 abc\nAAAA\n{MAC}");
        for end in 0..whole.len() {
            let line = whole[..end].matches('\n').count() + 1;
            let error = reading(&whole[..end]).unwrap_err();
            assert!(error.ends_with(&format!("cut short in line {line}")), "{error}");
        }
        let error = reading(&whole.replace("/v1", "/v12")).unwrap_err();
        assert!(error.contains("another version of the format than v1"), "{error}");
        for others in ["-> X25519 abc\nAAAA\n", "-> scrypt abc 18\nAAAA\n"] {
            let error = reading(&format!("{BEGIN}-> scrypt abc 18\nAAAA\n{others}{MAC}"));
            assert!(error.unwrap_err().contains("a passphrase does not stand alone"), "{others}");
        }
    }

    #[test]
    fn as_many_recipients_as_allowed_and_not_one_more() {
        let of = |count: usize| format!("{BEGIN}{}{MAC}", "-> X\n\n".repeat(count));
        assert!(reading(&of(STANZAS_MAX)).is_ok());
        let error = reading(&of(STANZAS_MAX + 1)).unwrap_err();
        assert!(error.contains("more than 256 recipients"), "{error}");
    }
}
