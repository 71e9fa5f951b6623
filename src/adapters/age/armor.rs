//! The armour of an age file: its bytes as text, between two lines that mark them.
//!
//! Problem: text goes through mail and clipboards, which change it. A change has to be noticed for
//! what it is, and said by the line that it is in.
//!
//! ```text
//! armour = *blank begin *full last end *white
//! begin  = "-----BEGIN AGE ENCRYPTED FILE-----"
//! end    = "-----END AGE ENCRYPTED FILE-----"
//! full   = 64 characters of base64, no padding
//! last   = 4 to 64 characters of base64, padded to a multiple of four; or no line, if all are full
//! ```
//!
//! Lines end with a line feed, or a carriage return and a line feed; the last one may lack it.
//!
//! States: `Before` the line that begins it, `Inside`, `Last` (after a line that can only be the
//! last), `After` the line that ends it.
//!
//! Invariants:
//! 1. One line is kept at a time, of at most `LINE_MAX` bytes.
//! 2. The end of what it yields is the end of the input, but for so much white space.

use std::io::{self, BufRead, Read};

use data_encoding::BASE64_NOPAD;

/// The line that begins it.
pub(super) const BEGIN: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// The line that ends it.
const END: &[u8] = b"-----END AGE ENCRYPTED FILE-----";
/// Characters of a line, but for the last one.
const COLUMNS: usize = 64;
/// Bytes in a line.
const LINE_BYTES: usize = COLUMNS / 4 * 3;
/// Bytes of any line, and of the white space that may follow the last one.
const LINE_MAX: usize = 4 * 1024;

/// Why armour is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmorFault {
    /// Something else comes first.
    #[error("line {0} of its armour should be -----BEGIN AGE ENCRYPTED FILE-----")]
    Begin(u64),
    /// A line does not end.
    #[error("a line of its armour is over {LINE_MAX} bytes long")]
    Long,
    /// A line is not base64.
    #[error("line {0} of its armour is not 64 characters of base64, or fewer with their padding")]
    Line(u64),
    /// A line comes after the last one.
    #[error("line {0} of its armour should be -----END AGE ENCRYPTED FILE-----")]
    End(u64),
    /// The end is missing.
    #[error("its armour is cut short: it lacks -----END AGE ENCRYPTED FILE-----")]
    CutShort,
    /// Something comes after the end.
    #[error("something follows the end of its armour")]
    Trailing,
}

impl From<ArmorFault> for io::Error {
    fn from(fault: ArmorFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    Last,
    After,
}

/// Reads the bytes out of armour. Its errors about what it reads are `ArmorFault`s.
#[derive(Debug)]
pub(super) struct Armor<R> {
    input: R,
    state: State,
    line: Vec<u8>,
    /// Number of that line, from one.
    number: u64,
    bytes: [u8; LINE_BYTES],
    /// Those of the bytes that were not passed on yet.
    begin: usize,
    end: usize,
}

impl<R: BufRead> Armor<R> {
    pub(super) fn new(input: R) -> Self {
        let bytes = [0; LINE_BYTES];
        Self { input, state: State::Before, line: Vec::new(), number: 0, bytes, begin: 0, end: 0 }
    }

    /// Reads the next line, without its end. False if there is none.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.number += 1;
        let mut bounded = (&mut self.input).take(LINE_MAX as u64);
        let count = bounded.read_until(b'\n', &mut self.line)?;
        if self.line.ends_with(b"\n") {
            self.line.pop();
            self.line.pop_if(|last| *last == b'\r');
        } else if count == LINE_MAX {
            return Err(ArmorFault::Long.into());
        }
        Ok(count > 0)
    }

    /// Takes the next line.
    fn fill(&mut self) -> io::Result<()> {
        if !self.next_line()? {
            return Err(ArmorFault::CutShort.into());
        }
        match self.state {
            State::Before if self.line.trim_ascii().is_empty() => {}
            State::Before if self.line == BEGIN => self.state = State::Inside,
            State::Before => return Err(ArmorFault::Begin(self.number).into()),
            _ if self.line == END => {
                self.nothing_follows()?;
                self.state = State::After;
            }
            State::Inside => self.decode()?,
            State::Last | State::After => return Err(ArmorFault::End(self.number).into()),
        }
        Ok(())
    }

    /// The padding is taken off first: the decoder that knows of it takes it in the middle, too.
    fn decode(&mut self) -> Result<(), ArmorFault> {
        let line = self.line.as_slice();
        let fault = ArmorFault::Line(self.number);
        if line.is_empty() || !line.len().is_multiple_of(4) {
            return Err(fault);
        }
        let without = line.strip_suffix(b"==").or_else(|| line.strip_suffix(b"="));
        let digits = without.unwrap_or(line);
        let length = BASE64_NOPAD.decode_len(digits.len()).map_err(|_| fault)?;
        // What is longer than a line may be finds none.
        let room = self.bytes.get_mut(..length).ok_or(fault)?;
        BASE64_NOPAD.decode_mut(digits, room).map_err(|_| fault)?;
        (self.begin, self.end) = (0, length);
        if length < LINE_BYTES {
            self.state = State::Last;
        }
        Ok(())
    }

    fn nothing_follows(&mut self) -> io::Result<()> {
        self.line.clear();
        (&mut self.input).take(LINE_MAX as u64 + 1).read_to_end(&mut self.line)?;
        if self.line.len() > LINE_MAX || !self.line.trim_ascii().is_empty() {
            return Err(ArmorFault::Trailing.into());
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Armor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.begin == self.end && self.state != State::After {
            self.fill()?;
        }
        let count = buffer.len().min(self.end - self.begin);
        buffer[..count].copy_from_slice(&self.bytes[self.begin..self.begin + count]);
        self.begin += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN_LINE: &str = "-----BEGIN AGE ENCRYPTED FILE-----\n";
    const END_LINE: &str = "-----END AGE ENCRYPTED FILE-----\n";

    fn reading(text: &str) -> Result<Vec<u8>, ArmorFault> {
        let mut bytes = Vec::new();
        let read = Armor::new(text.as_bytes()).read_to_end(&mut bytes);
        let inner = |error: io::Error| *error.get_ref().unwrap().downcast_ref().unwrap();
        read.map(|_| bytes).map_err(inner)
    }

    #[test]
    fn armour_is_read_as_it_may_be_written() {
        let full = "A".repeat(64) + "\n";
        for (inside, length) in [
            ("", 0),
            ("AAAA\n", 3),
            ("AAA=\n", 2),
            ("AA==\n", 1),
            (full.as_str(), 48),
            (&format!("{full}{full}AA==\n"), 97),
            (&format!("{full}{}A=\n", "A".repeat(62)), 95),
        ] {
            let text = format!("{BEGIN_LINE}{inside}{END_LINE}");
            for text in [
                text.clone(),
                text.replace('\n', "\r\n"),
                text.trim_end().to_owned(),
                format!("\n \r\t\n{text} \r\n\t"),
            ] {
                assert_eq!(reading(&text), Ok(vec![0; length]), "{text:?}");
            }
        }
    }

    #[test]
    fn what_was_changed_is_said_by_its_line() {
        let full = "A".repeat(64) + "\n";
        let inside = |text: &str| format!("{BEGIN_LINE}{text}{END_LINE}");
        for (text, fault) in [
            (format!("garbage\n{}", inside("AAAA\n")), ArmorFault::Begin(1)),
            (format!("\n {}", inside("AAAA\n")), ArmorFault::Begin(2)),
            (inside("AAAA\n").replace("FILE", "MESSAGE"), ArmorFault::Begin(1)),
            (inside("\nAAAA\n"), ArmorFault::Line(2)),
            (inside("AAAA \n"), ArmorFault::Line(2)),
            (inside("AA\n"), ArmorFault::Line(2)),
            (inside("AB==\n"), ArmorFault::Line(2)),
            (inside("A===\n"), ArmorFault::Line(2)),
            (inside("AA==AAAA\n"), ArmorFault::Line(2)),
            (inside("AA*A\n"), ArmorFault::Line(2)),
            (inside(&format!("{full}AAAA{full}")), ArmorFault::Line(3)),
            (inside("AAAA\r\r\n"), ArmorFault::Line(2)),
            (inside("AAAA\nAAAA\n"), ArmorFault::End(3)),
            (inside("AAAA\n\n"), ArmorFault::End(3)),
            (inside("AAAA\n").replace("-----END AGE", "----- END AGE"), ArmorFault::End(3)),
            (format!("{BEGIN_LINE}{full}"), ArmorFault::CutShort),
            (format!("{BEGIN_LINE}AAAA"), ArmorFault::CutShort),
            (format!("{}garbage", inside("AAAA\n")), ArmorFault::Trailing),
            (inside("AAAA\n") + &" ".repeat(LINE_MAX + 1), ArmorFault::Trailing),
            (inside(&"A".repeat(LINE_MAX)), ArmorFault::Long),
        ] {
            assert_eq!(reading(&text), Err(fault), "{text:?}");
        }
        assert!(reading(&(inside("AAAA\n") + &" ".repeat(LINE_MAX))).is_ok());
    }
}
