//! The trace: every step of a run, as a running hash and, if wanted, as text.
//!
//! Two runs of one seed must give the same trace, bit for bit, in any process. The last lines are
//! kept for the report of a failure.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bzzz::types::Lock;

use crate::heap::Heap;

const KEPT: usize = 60;
/// Bytes of steps that are hashed together.
const UNHASHED: usize = 16 * 1_024;

struct Inner {
    hasher: blake3::Hasher,
    /// Steps that the hash does not cover yet: it is much faster over many at once.
    unhashed: Vec<u8>,
    lines: u64,
    last: VecDeque<String>,
    file: Option<std::io::BufWriter<std::fs::File>>,
    verbose: bool,
}

/// The trace of one run; cheap to clone.
#[derive(Clone)]
pub struct Trace {
    heap: Heap,
    inner: Arc<Mutex<Inner>>,
}

impl Trace {
    /// A trace that also goes to a file, if one is given.
    pub fn new(heap: Heap, file: Option<std::fs::File>) -> Self {
        let inner = Inner {
            hasher: blake3::Hasher::new(),
            unhashed: Vec::new(),
            lines: 0,
            last: VecDeque::new(),
            verbose: file.is_some(),
            file: file.map(std::io::BufWriter::new),
        };
        Self { heap, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Adds a routine step: hashed always, written as text only to a file.
    pub fn step(&self, what: &'static str, from: usize, to: usize, detail: u64) {
        let now = self.heap.now_us();
        let mut inner = self.inner.locked();
        let mut step = [0; 18];
        step[..8].copy_from_slice(&now.to_le_bytes());
        step[8..10].copy_from_slice(&[from as u8, to as u8]);
        step[10..].copy_from_slice(&detail.to_le_bytes());
        inner.hash(what.as_bytes());
        inner.hash(&step);
        inner.lines += 1;
        if inner.verbose {
            let line = format!("{now:>12} {what} {from}->{to} {detail:x}");
            inner.write(&line);
        }
    }

    /// Adds a notable step, which a failure report shows.
    pub fn note(&self, text: &str) {
        let now = self.heap.now_us();
        let mut inner = self.inner.locked();
        let line = format!("{now:>12} {text}");
        inner.hash(line.as_bytes());
        inner.lines += 1;
        if inner.verbose {
            inner.write(&line);
        }
        if inner.last.len() == KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// The hash so far, and how many steps it covers.
    pub fn hash(&self) -> (String, u64) {
        let mut inner = self.inner.locked();
        inner.flush();
        (inner.hasher.finalize().to_hex()[..16].to_owned(), inner.lines)
    }

    /// The last notable steps.
    pub fn last(&self) -> Vec<String> {
        self.inner.locked().last.iter().cloned().collect()
    }
}

impl Inner {
    fn hash(&mut self, bytes: &[u8]) {
        self.unhashed.extend_from_slice(bytes);
        if self.unhashed.len() >= UNHASHED {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.unhashed);
        self.unhashed.clear();
    }

    fn write(&mut self, line: &str) {
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").expect("the trace file can be written");
        }
    }
}
