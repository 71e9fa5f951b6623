//! The log's way out of the process: lines, written as far as somebody takes them.
//!
//! Problem: whoever reads the standard error of a daemon may go away (a pipe breaks), stop reading (a
//! pipe fills up), or have no room (a full disk). None of that may fail, delay or end anything, so
//! whoever has a line to write must neither wait nor hear of an error.
//!
//! Flow: `push` puts a line into a bounded queue; one thread writes them, one call for each. What does
//! not fit, and what cannot be written, is dropped and counted. Once a line is written again, another
//! one before it says how many are missing.
//!
//! Invariants:
//! 1. `push` never blocks on the file, never fails and never panics.
//! 2. At most `BYTES_MAX` bytes wait.
//! 3. Every line is written whole, or counted as dropped; the rest of one that was torn is ended.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::types::Lock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes that wait at most.
const BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one line at most; the rest of a longer one is left out.
const LINE_LEN_MAX: usize = 64 * 1024;

/// Says in a line of its own how many lines are missing.
type Notice = fn(u64) -> String;

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is being written.
    is_writing: bool,
    /// Lines dropped since the process began.
    dropped: u64,
    /// As many of them were told of.
    told: u64,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.locked()
    }
}

/// Takes lines. Clones feed the same queue.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

impl Lines {
    /// Starts the thread that writes to `file`. Without a thread every line is dropped.
    pub fn start(file: OwnedFd, notice: Notice) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let writer = Writer { file, notice, shared: shared.clone(), is_torn: false };
        let thread = std::thread::Builder::new().name("log".to_owned());
        // No thread, no log: the node has more important things to do than to complain.
        drop(thread.spawn(move || writer.run()));
        Self(shared)
    }

    /// Has a line written, which `line` ends with.
    pub fn push(&self, mut line: Vec<u8>) {
        if line.len() > LINE_LEN_MAX {
            line.truncate(LINE_LEN_MAX - 1);
            line.push(b'\n');
        }
        let mut queue = self.0.lock();
        if queue.bytes + line.len() > BYTES_MAX {
            queue.dropped += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Lines that nobody will see.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Waits until everything was written, but not for longer than this.
    pub fn flush(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut queue = self.0.lock();
        while queue.is_writing || !queue.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One line, as the library that formats them wants to write it.
pub struct Line {
    lines: Lines,
    text: Vec<u8>,
}

impl Lines {
    /// A line that is pushed once it is dropped.
    pub fn line(&self) -> Line {
        Line { lines: self.clone(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.lines.push(std::mem::take(&mut self.text));
        }
    }
}

struct Writer {
    file: OwnedFd,
    notice: Notice,
    shared: Arc<Shared>,
    /// The last line was written in part only.
    is_torn: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (line, missing) = self.take();
            let mut written = missing == 0 || self.write((self.notice)(missing).as_bytes());
            let is_told = written && missing > 0;
            written = written && self.write(&line);
            let mut queue = self.shared.lock();
            queue.is_writing = false;
            queue.told += if is_told { missing } else { 0 };
            queue.dropped += u64::from(!written);
            drop(queue);
            self.shared.changed.notify_all();
        }
    }

    /// The next line, and how many are missing before it.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut queue = self.shared.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return (line, queue.dropped - queue.told);
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a line; false if nobody takes it.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.is_torn {
            if write_all(self.file.as_fd(), b"\n").is_err() {
                return false;
            }
            self.is_torn = false;
        }
        match write_all(self.file.as_fd(), line) {
            Ok(()) => true,
            Err(written) => {
                self.is_torn = written > 0;
                false
            }
        }
    }
}

/// Writes all of it, or says how much of it was written.
fn write_all(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(file, &bytes[written..]) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Somebody else who has the same file made it so.
            Err(Errno::AGAIN) => {
                if poll(&mut [PollFd::new(&file, PollFlags::OUT)], None).is_err() {
                    return Err(written);
                }
            }
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Read as _};

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn missing(count: u64) -> String {
        format!("{count} missing\n")
    }

    #[test]
    fn lines_are_written_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(writer.into(), missing);
        lines.push(b"one\n".to_vec());
        let mut line = lines.line();
        line.write_all(b"t").unwrap();
        line.write_all(b"wo\n").unwrap();
        drop(line);
        lines.flush(WAIT);
        let mut read = [0; 8];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((&read, lines.dropped()), (b"one\ntwo\n", 0));
    }

    #[test]
    fn a_reader_that_goes_away_or_has_no_room_costs_lines_and_nothing_else() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        for file in [OwnedFd::from(writer), OwnedFd::from(full)] {
            let lines = Lines::start(file, missing);
            for _ in 0..3 {
                lines.push(b"line\n".to_vec());
            }
            lines.flush(WAIT);
            assert_eq!(lines.dropped(), 3);
        }
    }

    #[test]
    fn a_reader_that_stops_holds_nobody_up_and_hears_later_how_much_it_missed() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(writer.into(), missing);
        let long = [&[b'x'; 999][..], b"\n"].concat();
        let mut pushed = 0;
        // The pipe fills up, and then the queue.
        while lines.dropped() < 5 {
            lines.push(long.clone());
            pushed += 1;
        }
        lines.flush(Duration::ZERO);
        let reading = std::thread::spawn(move || {
            let read = io::BufReader::new(reader).lines().map_while(Result::ok);
            read.take_while(|line| line != "again").collect::<Vec<_>>()
        });
        lines.flush(WAIT);
        lines.push(b"again\n".to_vec());
        let read = reading.join().unwrap();
        let (long, told): (Vec<_>, Vec<_>) = read.iter().partition(|line| line.len() == 999);
        assert_eq!((long.len(), lines.dropped()), (pushed - 5, 5));
        assert_eq!(told, ["5 missing"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(writer.into(), missing);
        lines.push(vec![b'x'; LINE_LEN_MAX + 1]);
        lines.push(b"again\n".to_vec());
        let mut read = io::BufReader::new(reader).lines().map_while(Result::ok);
        assert_eq!(read.next().unwrap().len(), LINE_LEN_MAX - 1);
        assert_eq!(read.next().unwrap(), "again");
    }
}
