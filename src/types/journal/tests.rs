//! Tests of the journal's byte format.

use proptest::prelude::*;

use super::*;

const NAME: &str = "control";
const FILE_ID: [u8; 16] = [7; 16];

fn bodies(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![index as u8; index * 7 % 40]).collect()
}

/// Appends one batch to an image, and marks it if it was acknowledged.
fn append(image: &mut Vec<u8>, tail: &mut Tail, records: &[Vec<u8>], acknowledged: bool) {
    for body in records {
        tail.encode_record(body, image).unwrap();
    }
    if acknowledged {
        let (offset, mark) = tail.encode_mark();
        image[offset as usize..][..MARK_LEN].copy_from_slice(&mark);
    }
}

/// A journal that began with two records and got the others in batches of one to three.
fn image_of(records: &[Vec<u8>]) -> (Vec<u8>, Tail) {
    let (first, mut rest) = records.split_at(records.len().min(2));
    let (mut image, mut tail) = new_image(NAME, FILE_ID, first).unwrap();
    let mut size = 1;
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(rest.len().min(size));
        append(&mut image, &mut tail, batch, true);
        rest = others;
        size = size % 3 + 1;
    }
    (image, tail)
}

#[test]
fn golden_bytes() {
    let (image, tail) = image_of(&bodies(5));
    assert_eq!(tail.length(), image.len() as u64);
    let hex = |range: std::ops::Range<usize>| data_encoding::HEXLOWER.encode(&image[range]);
    assert_eq!(
        hex(0..35),
        "425a5a5a6a726e0a0100000007070707070707070707070707070707636f6e74726f6c"
    );
    assert_eq!(
        hex(4096..4096 + 48),
        "0400000000000000aa30000000000000\
         626345db3d43bb3905b02d7c4e279597f858cf988b8cc42ca063b734d28814fd"
    );
    assert_eq!(
        hex(12288..12288 + 47),
        "00000000f70d5291e8c9b17287a0700ad32817f0\
         07000000a462796046fd366729be81868a69da1401010101010101"
    );
    assert_eq!(
        blake3::hash(&image).to_hex().as_str(),
        "ddd7292a1c85303e608e71e7b8a26c2d42260942997063ac6d5a8ddd4116753e"
    );
}

#[test]
fn a_journal_reads_back_what_was_written() {
    for count in [0, 1, 2, 3, 9] {
        let (image, tail) = image_of(&bodies(count));
        let found = scan(NAME, &image).unwrap();
        let marked = tail.length();
        assert_eq!(found, Scan { records: bodies(count), tail, marked, torn_bytes: 0 });
    }
}

#[test]
fn a_flipped_byte_never_loses_a_record_silently() {
    let records = bodies(9);
    let (image, tail) = image_of(&records);
    let mut refused = 0;
    for position in 0..image.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = image.clone();
            damaged[position] ^= flip;
            match scan(NAME, &damaged) {
                Ok(found) => {
                    assert_eq!(found.records, records, "byte {position}");
                    assert_eq!((found.tail.length, found.tail.chain), (tail.length, tail.chain));
                }
                Err(error) => {
                    assert!(error.is_damage(), "byte {position}: {error}");
                    refused += 1;
                }
            }
        }
    }
    let covered = STATIC_LEN + CHECK + image.len() - HEADER_LEN as usize;
    // Damage to one mark or to padding costs nothing; all else is noticed.
    assert_eq!(refused, covered * 3);
}

#[test]
fn a_cut_is_noticed_wherever_it_is() {
    let (image, _) = image_of(&bodies(9));
    for len in 0..image.len() {
        let error = scan(NAME, &image[..len]).unwrap_err();
        assert!(matches!(error, JournalError::Shorter { .. }), "cut at {len}: {error}");
    }
}

#[test]
fn a_torn_end_is_cut_off() {
    let records = bodies(6);
    let (mut image, mut tail) = image_of(&records);
    let acknowledged = tail.length();
    append(&mut image, &mut tail, &[vec![1; 10], vec![2; 300]], false);
    let whole = scan(NAME, &image).unwrap();
    assert_eq!((whole.records.len(), whole.marked, whole.torn_bytes), (8, acknowledged, 0));
    for len in acknowledged as usize..image.len() {
        let found = scan(NAME, &image[..len]).unwrap();
        let kept = 6 + usize::from(len >= acknowledged as usize + RECORD_OVERHEAD + 10);
        assert_eq!(found.records, whole.records[..kept], "cut at {len}");
        assert_eq!(found.tail.length + found.torn_bytes, len as u64);
    }
    // A file system may also leave the length in place and the bytes unwritten.
    image[acknowledged as usize..].fill(0);
    let found = scan(NAME, &image).unwrap();
    assert_eq!((found.records, found.tail.length), (records, acknowledged));
}

#[test]
fn either_mark_serves_and_without_both_nothing_is_read() {
    let records = bodies(7);
    let (mut image, tail) = image_of(&records);
    for place in [0, 1] {
        let mut torn = image.clone();
        torn[mark_offset(place)..][..BLOCK].fill(0);
        assert_eq!(scan(NAME, &torn).unwrap().records, records);
    }
    assert_eq!(scan(NAME, &image).unwrap().tail.sequence(), tail.sequence());
    image[mark_offset(0)..][..2 * BLOCK].fill(0);
    assert!(matches!(scan(NAME, &image), Err(JournalError::Damaged { .. })));
}

#[test]
fn foreign_files_and_versions_are_refused() {
    let (image, _) = image_of(&bodies(3));
    let error = scan("other", &image).unwrap_err();
    assert!(matches!(error, JournalError::NotAJournal { .. }), "{error}");
    assert!(error.to_string().contains("the file is the journal control"));
    let mut newer = image.clone();
    newer[VERSION_AT] = 9;
    let check = digest(&[&newer[..STATIC_LEN]]);
    newer[STATIC_LEN..][..CHECK].copy_from_slice(&check);
    let name = NAME.to_owned();
    assert_eq!(scan(NAME, &newer), Err(JournalError::Version { name, found: 9, ours: 1 }));
    // Records of another life of the same journal don't chain.
    let (mut old, mut old_tail) = new_image(NAME, [8; 16], &bodies(3)).unwrap();
    let end = old_tail.length() as usize;
    append(&mut old, &mut old_tail, &[vec![1]], true);
    let (mut new, tail) = new_image(NAME, FILE_ID, &bodies(3)).unwrap();
    new.extend_from_slice(&old[end..]);
    assert_eq!(scan(NAME, &new).unwrap().tail, tail);
}

#[test]
fn names_and_lengths_are_checked() {
    for name in ["", "A", "a/b", "..", "a\0", &"a".repeat(65)] {
        assert!(matches!(new_image(name, FILE_ID, &[]), Err(JournalError::Name { .. })), "{name}");
    }
    let (mut image, mut tail) = image_of(&[]);
    let before = tail;
    let error = tail.encode_record(&vec![0; JOURNAL_RECORD_MAX + 1], &mut image).unwrap_err();
    assert!(matches!(error, JournalError::RecordTooLong { .. }));
    assert_eq!((tail, image.len() as u64), (before, HEADER_LEN));
    // A length that claims to be huge allocates nothing and is a torn end.
    image.extend_from_slice(&[0xff; RECORD_OVERHEAD]);
    assert_eq!(scan(NAME, &image).unwrap().torn_bytes, RECORD_OVERHEAD as u64);
}

#[test]
fn errors_say_what_to_do() {
    let error = JournalError::Shorter { name: NAME.into(), expected: 9, found: 3 };
    assert!(error.to_string().ends_with("(`bzzz run --join ADDR --token-file FILE`)"), "{error}");
    let error = JournalError::Locked { path: "/data".into(), pid: Some(12) };
    assert!(error.to_string().starts_with("/data is in use by another process (pid 12); stop"));
    assert!(!error.is_damage());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// One damaged stretch, wherever it lies: all records, or an error.
    #[test]
    fn random_damage_never_loses_a_record_silently(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
        at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..64),
        cut in any::<bool>(),
    ) {
        let (mut image, _) = image_of(&records);
        let at = at.index(image.len());
        if cut {
            image.truncate(at);
        } else {
            for (byte, noise) in image[at..].iter_mut().zip(&noise) {
                *byte = *noise;
            }
        }
        if let Ok(found) = scan(NAME, &image) {
            prop_assert_eq!(found.records, records);
        }
    }

    /// Whatever happens behind the mark, what is before it stays.
    #[test]
    fn the_acknowledged_part_survives_any_end(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        end in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut image, tail) = image_of(&records);
        image.extend_from_slice(&end);
        let found = scan(NAME, &image).unwrap();
        prop_assert_eq!(found.records, records);
        prop_assert_eq!(found.tail, tail);
    }

    #[test]
    fn any_bytes_are_read_without_panicking(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        length in any::<u64>(),
        keep in any::<bool>(),
    ) {
        let _ = scan(NAME, &bytes);
        // Behind a good header, and with a mark that checks out but says anything at all.
        let (mut image, mut tail) = image_of(&[]);
        image.extend_from_slice(&bytes);
        if keep {
            tail.length = length;
        }
        let (offset, mark) = tail.encode_mark();
        image[offset as usize..][..MARK_LEN].copy_from_slice(&mark);
        let _ = scan(NAME, &image);
    }
}
