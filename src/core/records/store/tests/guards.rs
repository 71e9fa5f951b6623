//! What the store goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;

/// A table that is never asked for more rows than a page takes.
struct Paged(Memory);

impl Table for Paged {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.0.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        assert!(limit <= RECORD_KEYS_MAX + 1, "{limit}");
        self.0.range(from, to, limit)
    }
}

fn keys_of(table: &dyn Table, partition: Partition) -> (Vec<RecordKey>, bool) {
    let mut digests = Digests::load(table).unwrap();
    match execute(&mut Batch::new(table, &mut digests), &StoreOp::Keys { partition, after: None }) {
        Ok(StoreAnswer::Keys(keys, more)) => (keys, more),
        other => panic!("{other:?}"),
    }
}

/// A content of a partition.
fn put_in(partition: u16, end: [u8; 2], content: &[u8]) -> StoreOp {
    let mut hash = [end[0]; 32];
    hash[..2].copy_from_slice(&(partition << 4 | u16::from(end[0] >> 4)).to_be_bytes());
    hash[31] = end[1];
    StoreOp::Put { hash: ContentHash(hash), generation: 1, content: Bytes(content.to_vec()) }
}

#[test]
fn what_carries_a_content_is_as_large_as_that_and_only_writes_write() {
    let version = version(5, 1, 1);
    let content = Bytes(vec![7; 5_000]);
    let hash = version.content;
    let (settled, vouched) = (false, None);
    let put = StoreOp::Put { hash, generation: 1, content: content.clone() };
    let at = address(HERE);
    let post = StoreOp::Post { address: at, version, generation: 1, content, settled, vouched };
    assert_eq!((put.size(), post.size()), (5_000, 5_000));
    for write in [put, post, add(HERE, version), merge(HERE, version)] {
        assert!(write.is_write(), "{write:?}");
    }
    for read in [
        StoreOp::Content(hash),
        StoreOp::Newest(address(HERE)),
        StoreOp::Find { address: address(HERE), request: version.request, vouched },
        StoreOp::Versions(address(HERE)),
        StoreOp::Scan { prefix: String::new(), after: None, limit: 1 },
        StoreOp::Digests,
        StoreOp::Keys { partition: Partition(0), after: None },
        StoreOp::Missing { keys: vec![], with_contents: false },
        StoreOp::Fetch(vec![]),
        StoreOp::Clock,
    ] {
        assert!(!read.is_write() && (1..5_000).contains(&read.size()), "{read:?}");
    }
}

#[test]
fn equal_sets_have_equal_digests_however_they_came_about() {
    let (mut replaced, mut fresh) = (Memory::default(), Memory::default());
    replaced.run(&[put(1, 1, b"first"), put(1, 2, b"second")]);
    fresh.run(&[put(1, 2, b"second")]);
    let digests = fresh.one(StoreOp::Digests);
    assert_eq!(replaced.one(StoreOp::Digests), digests);
    let StoreAnswer::Digests(digests) = digests else { unreachable!() };
    let differing: Vec<usize> = (0..digests.len()).filter(|at| digests[*at] != 0).collect();
    let partition = Partition::of_content(&ContentHash([1; 32]));
    assert_eq!(differing, [usize::from(partition.0)], "of the partition that it is in");
}

#[test]
fn a_try_that_comes_again_takes_back_nothing() {
    let mut store = Memory::default();
    let made = version(5, 1, 1);
    let add_as =
        |vouched| StoreOp::Add { address: address(HERE), version: made, settled: false, vouched };
    store.one(add_as(SET));
    // By then this holder may lack something.
    assert_eq!(store.one(add_as(None)), StoreAnswer::Stored);
    store.one(merge(HERE, version(7, 1, 2)));
    let found = StoreAnswer::Newest(Some(made));
    assert_eq!(store.one(find_op(made, SET)), found, "it was above all when it came");
}

#[test]
fn the_keys_of_a_partition_are_those_of_its_records() {
    let mut store = Memory::default();
    let partitions = [0, 1, 2, 255, 256, PARTITIONS - 2, PARTITIONS - 1];
    let mut contents = Vec::new();
    for partition in partitions {
        for end in [[0, 0], [0, 1], [0xff, 0xfe], [0xff, 0xff]] {
            let op = put_in(partition, end, b"content");
            let StoreOp::Put { hash, .. } = &op else { unreachable!() };
            assert_eq!(Partition::of_content(hash), Partition(partition));
            contents.push(RecordKey::Content(*hash, 1));
            store.one(op);
        }
    }
    let mut versions = Vec::new();
    for number in 0..600_u16 {
        let (at, version) = (format!("a/b/c/task-{number}/n"), version(5, 1, 1));
        store.one(add(&at, version));
        versions.push(RecordKey::Version(address(&at), version));
    }
    let store = Paged(store);
    for partition in (0..PARTITIONS).map(Partition) {
        let is_in = |key: &&RecordKey| match key {
            RecordKey::Content(hash, _) => Partition::of_content(hash) == partition,
            RecordKey::Version(address, _) => Partition::of_address(address) == partition,
        };
        let mut expected: Vec<RecordKey> = contents.iter().filter(is_in).cloned().collect();
        expected.extend(versions.iter().filter(is_in).cloned());
        expected.sort_unstable();
        assert_eq!(keys_of(&store, partition), (expected, false));
    }
}

#[test]
fn a_page_of_keys_is_full_before_there_is_more() {
    let most = RECORD_KEYS_MAX;
    for (contents, versions) in [(most, 0), (most - 3, 3), (0, most)] {
        let mut store = Memory::default();
        let partition = Partition::of_address(&address(HERE));
        for number in 0..u16::try_from(contents).unwrap() {
            store.one(put_in(partition.0, number.to_be_bytes(), b"content"));
        }
        for number in 0..versions as u64 {
            store.one(merge(HERE, version(number + 1, 1, 1)));
        }
        let store = Paged(store);
        let (keys, more) = keys_of(&store, partition);
        assert_eq!((keys.len(), more), (most, false), "{contents} and {versions}");
        let Paged(mut store) = store;
        store.one(merge(HERE, version(9_999, 1, 1)));
        let (again, more) = keys_of(&Paged(store), partition);
        assert_eq!((again, more), (keys, true), "{contents} and {versions}");
    }
}

#[test]
fn as_many_records_are_fetched_as_fit_and_always_one() {
    let fetched = |lens: [usize; 2]| {
        let mut store = Memory::default();
        let keys = [1, 2].map(|n| RecordKey::Content(ContentHash([n; 32]), 1));
        store.run(&[put(1, 1, &vec![7; lens[0]]), put(2, 1, &vec![7; lens[1]])]);
        match store.one(StoreOp::Fetch(keys.to_vec())) {
            StoreAnswer::Records(records) => records.len(),
            other => panic!("{other:?}"),
        }
    };
    let half = RECORDS_BYTES_MAX / 2 - UCXL_TEXT_MAX;
    assert_eq!(fetched([half, half]), 2);
    assert_eq!(fetched([half, half + 1]), 1);
    assert_eq!(fetched([RECORDS_BYTES_MAX, 1]), 1, "one that is larger goes alone");
}

#[test]
fn a_history_has_more_than_may_be_added_where_it_was_added_to_at_once() {
    let mut store = Memory::default();
    let count = VERSIONS_MAX + 10;
    let ops: Vec<StoreOp> = (0..count).map(|n| merge(HERE, version(n as u64 + 1, 1, 1))).collect();
    store.run(&ops);
    let StoreAnswer::Versions(versions) = store.one(StoreOp::Versions(address(HERE))) else {
        unreachable!()
    };
    assert_eq!(versions.len(), count);
    assert!(versions.is_sorted());
}

#[test]
fn a_page_of_addresses_that_ends_with_the_last_one_says_so() {
    let mut store = Memory::default();
    for task in 0..3 {
        store.one(add(&format!("a/b/c/task-{task}/n"), version(5, 1, 1)));
    }
    for (limit, expected) in [(2, (2, true)), (3, (3, false)), (4, (3, false))] {
        let scan = StoreOp::Scan { prefix: "a/".into(), after: None, limit };
        let StoreAnswer::Page(rows, more) = store.one(scan) else { unreachable!() };
        assert_eq!((rows.len(), more), expected);
    }
}

#[test]
fn a_batch_lists_what_it_has_written_between_what_was_there() {
    let mut store = Memory::default();
    let at = |task: u64| format!("a/b/c/task-{task}/n");
    store.run(&[add(&at(1), version(5, 1, 1)), add(&at(3), version(5, 1, 1))]);
    let scan = |limit| StoreOp::Scan { prefix: "a/".into(), after: None, limit };
    let ops = [add(&at(2), version(5, 1, 1)), add(&at(3), version(7, 1, 2)), scan(2), scan(3)];
    let answers = store.run(&ops);
    let row = |task, version| (address(&at(task)), version);
    let first = [row(1, version(5, 1, 1)), row(2, version(5, 1, 1))];
    assert_eq!(answers[2], StoreAnswer::Page(first.to_vec(), true));
    let all = [&first[..], &[row(3, version(7, 1, 2))]].concat();
    assert_eq!(answers[3], StoreAnswer::Page(all, false));
}

#[test]
fn what_is_whole_is_taken_over_once() {
    let mut whole = Memory::default();
    let ops = [content(1), content(2), merge(HERE, of(1, 5)), merge(HERE, of(2, 6))];
    whole.run(&ops);
    let mut found = Vec::new();
    let unreadable = salvage(&whole, &mut |op| {
        found.push(op);
        Ok(())
    });
    assert_eq!((unreadable, found.len()), (Ok(0), ops.len()));
}

#[test]
fn rows_on_a_page_with_a_torn_one_are_read_one_by_one() {
    let mut whole = Memory::default();
    for number in 0..=255_u8 {
        let content = Content::Raw(Bytes(vec![number; 40]));
        whole.one(StoreOp::Put { hash: content.hash(), generation: 0, content: content.encode() });
    }
    let mut keys: Vec<Vec<u8>> =
        whole.0.keys().filter(|key| key.starts_with(b"c")).cloned().collect();
    let torn = keys.remove(100);
    // Up to it, and behind all that begin with the same byte.
    let is_readable = |key: &&Vec<u8>| **key < torn || key[1] > torn[1];
    let expected = keys.iter().filter(is_readable).count();
    let mut found = 0;
    let unreadable = salvage(&Torn(whole, torn.clone()), &mut |_| {
        found += 1;
        Ok(())
    });
    assert!(unreadable.unwrap() > 0);
    assert_eq!(found, expected);
}

/// Digests of a table that so many batches went through; a few partitions change again and again.
fn after(batches: u64) -> (Memory, Digests) {
    let mut rows = Memory::default();
    let mut digests = Digests::load(&rows).unwrap();
    for number in 0..batches {
        let mut batch = Batch::new(&rows, &mut digests);
        let bytes = (number as u16).to_be_bytes();
        execute(&mut batch, &put_in(number as u16 % 7, bytes, b"content")).unwrap();
        let writes = batch.into_writes();
        rows.0.extend(writes);
    }
    (rows, digests)
}

#[test]
fn digests_are_found_again_wherever_the_last_batch_was() {
    let places = digests::PLACES;
    for batches in [0, 1, 2, places - 1, places, places + 1, 2 * places + 7] {
        let (rows, digests) = after(batches);
        let loaded = Digests::load(&rows).unwrap();
        let none = Changed::new();
        if batches > 0 {
            assert!(loaded == digests, "after {batches}");
        }
        let of_keys = Digests::of_keys(&rows).unwrap();
        assert!(loaded.with(&none) == of_keys.with(&none), "after {batches}");
        let changes = rows.0.keys().filter(|key| key[0] == b'e').count();
        assert!(changes < places as usize, "{changes}");
    }
}

#[test]
fn digests_of_a_table_that_has_none_are_made_from_its_keys() {
    let (mut rows, digests) = after(300);
    rows.0.retain(|key, _| !matches!(key[0], b'd' | b'e'));
    let none = Changed::new();
    assert!(Digests::load(&rows).unwrap().with(&none) == digests.with(&none));
}

#[test]
fn a_batch_that_is_given_up_changes_no_digest() {
    let (rows, mut digests) = after(3);
    let before = digests.clone();
    let mut batch = Batch::new(&rows, &mut digests);
    execute(&mut batch, &put(9, 1, b"content")).unwrap();
    drop(batch);
    assert!(digests == before);
}

#[test]
fn a_change_that_is_missing_is_noticed() {
    let (mut rows, digests) = after(20);
    let change = rows.0.keys().filter(|key| key[0] == b'e').nth(5).unwrap().clone();
    rows.0.remove(&change);
    assert!(Digests::load(&rows).unwrap().values() == digests.values());
}

#[test]
fn golden_bytes_of_digests() {
    let (rows, _) = after(2);
    let of = |key: &[u8]| data_encoding::HEXLOWER.encode(&rows.0[key][..4]);
    assert_eq!((of(b"d"), of(b"e\0\x01")), ("0100fb00".to_owned(), "01010101".to_owned()));
    assert_eq!(rows.0[&b"e\0\x01"[..]].len(), 13);
}

#[test]
fn what_are_no_digests_is_made_anew_from_the_keys() {
    let (rows, digests) = after(20);
    let all = |values: u64| [&[1, values as u8], vec![0; values as usize].as_slice()].concat();
    let change = rows.0.keys().find(|key| key[0] == b'e').unwrap();
    for (key, value) in [
        (b"d".to_vec(), all(3)),
        (b"d".to_vec(), vec![]),
        (change.clone(), vec![1, 2]),
        (b"d".to_vec(), written(&(u64::MAX, vec![0_u64; usize::from(PARTITIONS)]))),
        (change.clone(), written(&(u64::MAX, Vec::<(Partition, u64)>::new()))),
        (b"d\0\x07".to_vec(), vec![1, 5]),
    ] {
        let mut rows = Memory(rows.0.clone());
        rows.0.insert(key.clone(), value);
        let mut loaded = Digests::load(&rows).unwrap();
        assert!(loaded.values() == digests.values(), "{key:?}");
        // What is there by then does not come back later.
        let mut batch = Batch::new(&rows, &mut loaded);
        execute(&mut batch, &put_in(1, [9, 9], b"content")).unwrap();
        let writes = batch.into_writes();
        rows.0.extend(writes);
        assert!(Digests::load(&rows).unwrap().values() == loaded.values(), "{key:?}");
    }
}
