//! Golden bytes: a format that changed by accident fails a test, before a node meets data that it
//! can't read any more.
//!
//! The files in `golden/` hold what today's code writes, one value a line, in hexadecimal. A change of
//! a released format needs a new version, and the old lines stay readable.

use super::codec::{Durable, decode_durable, encode_durable};

/// Compares bytes with what was written before, one value a line.
pub fn compare(name: &str, golden: &str, written: &[Vec<u8>]) {
    let lines = written.iter().map(|bytes| data_encoding::HEXLOWER.encode(bytes) + "\n");
    let written: String = lines.collect();
    assert!(written == golden, "the format of {name} is another one now:\n{written}");
}

/// Compares durable records with what they were written as before, and reads them.
pub fn durable<T: Durable>(golden: &str, values: &[T]) {
    let written: Vec<Vec<u8>> = values.iter().map(encode_durable).collect();
    for bytes in &written {
        let read = decode_durable::<T>(bytes).expect("what was written can be read");
        assert_eq!(encode_durable(&read), *bytes, "it is read as another value");
    }
    compare(T::NAME, golden, &written);
}
