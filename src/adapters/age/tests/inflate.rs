//! Decompression of zlib streams (RFC 1950, RFC 1951), for the vectors that are compressed.
//!
//! It takes what it is given to be right: a bit that is missing is a panic, and what comes out is
//! compared by whoever reads it.

/// Bits of the input, the lowest of each byte first.
struct Bits<'a> {
    input: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        let bit = |at: usize| usize::from(self.input[at / 8] >> (at % 8) & 1);
        let value = (0..count).map(|place| bit(self.at + place) << place).sum();
        self.at += count;
        value
    }
}

/// Canonical Huffman codes: how many there are of each length, and their symbols in order.
struct Codes {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Codes {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().filter(|length| **length > 0).for_each(|length| counts[*length] += 1);
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|at| lengths[*at] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Self { counts, symbols }
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

/// The codes for bytes and lengths, and those for distances, which a block begins with.
fn dynamic(bits: &mut Bits<'_>) -> (Codes, Codes) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances) = (257 + bits.take(5), 1 + bits.take(5));
    let mut lengths = vec![0; 19];
    let count = 4 + bits.take(4);
    ORDER[..count].iter().for_each(|at| lengths[*at] = bits.take(3));
    let codes = Codes::new(&lengths);
    lengths.clear();
    while lengths.len() < literals + distances {
        let (length, times) = match codes.symbol(bits) {
            16 => (lengths[lengths.len() - 1], 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    (Codes::new(&lengths[..literals]), Codes::new(&lengths[literals..]))
}

fn fixed() -> (Codes, Codes) {
    let length = |symbol| match symbol {
        0..=143 => 8,
        144..=255 => 9,
        256..=279 => 7,
        _ => 8,
    };
    (Codes::new(&(0..288).map(length).collect::<Vec<_>>()), Codes::new(&[5; 30]))
}

/// What a symbol above `begin` stands for, if the first `first` have no further bits and after that
/// each `step` have one more.
fn extended(symbol: usize, step: usize, bits: &mut Bits<'_>) -> usize {
    if symbol < 2 * step {
        return symbol;
    }
    let further = symbol / step - 1;
    ((step + symbol % step) << further) + bits.take(further)
}

/// The bytes that a zlib stream stands for.
pub(super) fn inflate(input: &[u8]) -> Vec<u8> {
    let mut bits = Bits { input, at: 16 };
    let mut output = Vec::new();
    loop {
        let is_last = bits.take(1) == 1;
        let (literals, distances) = match bits.take(2) {
            0 => {
                let begin = bits.at.div_ceil(8);
                let length = usize::from(u16::from_le_bytes([input[begin], input[begin + 1]]));
                output.extend_from_slice(&input[begin + 4..begin + 4 + length]);
                bits.at = (begin + 4 + length) * 8;
                if is_last {
                    return output;
                }
                continue;
            }
            1 => fixed(),
            _ => dynamic(&mut bits),
        };
        loop {
            match literals.symbol(&mut bits) {
                byte @ 0..=255 => output.push(byte as u8),
                256 => break,
                symbol => {
                    let length = match symbol {
                        285 => 258,
                        symbol => 3 + extended(symbol - 257, 4, &mut bits),
                    };
                    let symbol = distances.symbol(&mut bits);
                    let begin = output.len() - 1 - extended(symbol, 2, &mut bits);
                    (begin..begin + length).for_each(|at| output.push(output[at]));
                }
            }
        }
        if is_last {
            return output;
        }
    }
}
