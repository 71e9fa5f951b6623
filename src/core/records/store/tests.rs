//! The rules of one store, against a table in memory and against a simple model.

use proptest::prelude::*;

use super::*;
use crate::core::records::content::{Content, Envelope};
use crate::types::record::DecisionKind;
use crate::types::{BodyHash, MemberId, PeerId, PlaceHash, Wall};

mod guards;

#[derive(Default)]
pub(in crate::core::records) struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

impl Table for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let range = self.0.range(from.to_vec()..to.to_vec()).take(limit);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl Memory {
    fn run(&mut self, ops: &[StoreOp]) -> Vec<StoreAnswer> {
        let mut digests = Digests::load(self).unwrap();
        let mut batch = Batch::new(self, &mut digests);
        let answers = ops.iter().map(|op| execute(&mut batch, op).unwrap()).collect();
        let writes = batch.into_writes();
        self.0.extend(writes);
        assert!(Digests::load(self).unwrap() == digests, "as after a restart");
        answers
    }

    /// All rows but those that depend on which of them came together.
    fn kept(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let is_kept = |key: &&Vec<u8>| !matches!(key.first(), Some(b'd' | b'e'));
        let rows = self.0.iter().filter(|(key, _)| is_kept(key));
        rows.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(in crate::core::records) fn one(&mut self, op: StoreOp) -> StoreAnswer {
        self.run(&[op]).remove(0)
    }
}

fn address(text: &str) -> DecisionAddress {
    text.parse().unwrap()
}

fn version(ms: u64, writer: u64, request: u8) -> Version {
    Version {
        at: Hlc { ms, counter: 0 },
        writer: MemberId(writer),
        content: ContentHash([request; 32]),
        request: RequestId([request; 16]),
        kind: DecisionKind::Code,
        body: BodyHash([request; 32]),
    }
}

fn add(at: &str, version: Version) -> StoreOp {
    StoreOp::Add { address: address(at), version, settled: false, vouched: None }
}

fn put(first: u8, generation: u32, content: &[u8]) -> StoreOp {
    let hash = ContentHash([first; 32]);
    StoreOp::Put { hash, generation, content: Bytes(content.to_vec()) }
}

fn merge(at: &str, version: Version) -> StoreOp {
    StoreOp::Merge { address: address(at), version, vouched: None }
}

/// A set of replicas that this store is in, and another one.
const SET: Option<SetId> = Some(SetId(1));
const OTHER_SET: Option<SetId> = Some(SetId(2));

const HERE: &str = "a/b/c/d/e";

fn post(version: Version) -> StoreOp {
    let content = Bytes(vec![1, 2]);
    let (settled, vouched) = (false, SET);
    StoreOp::Post { address: address(HERE), version, generation: 1, content, settled, vouched }
}

#[test]
fn content_and_version_are_kept_together_or_not_at_all() {
    let mut store = Memory::default();
    let (first, newer) = (version(5, 1, 1), version(7, 1, 2));
    assert_eq!(store.one(post(newer)), StoreAnswer::Stored);
    let content = |store: &mut Memory, version: Version| {
        store.one(StoreOp::Content(version.content)) != StoreAnswer::Content(None)
    };
    assert!(content(&mut store, newer));
    assert_eq!(store.one(post(first)), StoreAnswer::NotGreater(newer));
    assert!(!content(&mut store, first), "it may never be asked for again");
    let digests = store.one(StoreOp::Digests);
    let again = Version { content: ContentHash([9; 32]), at: Hlc { ms: 9, counter: 0 }, ..newer };
    let repeated = StoreAnswer::Repeated(newer, Some(Bytes(vec![1, 2])));
    assert_eq!(store.one(post(again)), repeated);
    assert!(!content(&mut store, again));
    assert_eq!(store.one(StoreOp::Digests), digests, "nothing was written");
    let find = |request| StoreOp::Find {
        address: address(HERE),
        request: RequestId([request; 16]),
        vouched: SET,
    };
    assert_eq!(store.one(find(2)), StoreAnswer::Newest(Some(newer)));
    assert_eq!(store.one(find(1)), StoreAnswer::Newest(None));
}

#[test]
fn a_version_is_added_above_the_newest_only_and_once() {
    let mut store = Memory::default();
    let (old, new) = (version(5, 1, 1), version(7, 1, 2));
    assert_eq!(store.one(add(HERE, new)), StoreAnswer::Stored);
    assert_eq!(store.one(add(HERE, old)), StoreAnswer::NotGreater(new));
    assert_eq!(store.one(add(HERE, new)), StoreAnswer::Stored, "the answer got lost");
    let other = Version { content: ContentHash([9; 32]), at: Hlc { ms: 9, counter: 0 }, ..new };
    assert_eq!(
        store.one(add(HERE, other)),
        StoreAnswer::Repeated(new, None),
        "the same publication"
    );
    let again = Version { at: Hlc { ms: 9, counter: 0 }, ..new };
    assert_eq!(store.one(add(HERE, again)), StoreAnswer::Stored, "stamped anew");
    let merged = merge(HERE, old);
    assert_eq!(store.one(merged), StoreAnswer::Stored, "it exists elsewhere");
    // Found by seed 740 of five nodes over 60 seconds: a copy came between a question and its repetition.
    assert_eq!(store.one(add(HERE, old)), StoreAnswer::NotGreater(again), "it is not above them");
    let all = StoreAnswer::Versions(vec![old, new, again]);
    assert_eq!(store.one(StoreOp::Versions(address(HERE))), all);
    assert_eq!(store.one(StoreOp::Newest(address(HERE))), StoreAnswer::Newest(Some(again)));
    assert_eq!(store.one(StoreOp::Newest(address("a/b/c/d/f"))), StoreAnswer::Newest(None));
    assert_eq!(store.one(StoreOp::Clock), StoreAnswer::Clock(Hlc { ms: 9, counter: 0 }));
}

#[test]
fn operations_of_a_batch_see_those_before_them() {
    let mut store = Memory::default();
    let (old, new) = (version(5, 1, 1), version(7, 1, 2));
    let ops = [add(HERE, new), add(HERE, old), StoreOp::Versions(address(HERE))];
    let expected =
        vec![StoreAnswer::Stored, StoreAnswer::NotGreater(new), StoreAnswer::Versions(vec![new])];
    assert_eq!(store.run(&ops), expected);
}

#[test]
fn an_address_has_so_many_versions_and_no_more() {
    let mut store = Memory::default();
    let requests = |n: usize| {
        let mut version = version(n as u64 + 1, 1, 0);
        version.request.0[..8].copy_from_slice(&(n as u64).to_le_bytes());
        add(HERE, version)
    };
    let ops: Vec<StoreOp> = (0..=VERSIONS_MAX).map(requests).collect();
    let answers = store.run(&ops);
    assert!(answers[..VERSIONS_MAX].iter().all(|answer| *answer == StoreAnswer::Stored));
    assert_eq!(answers[VERSIONS_MAX], StoreAnswer::Full);
}

#[test]
fn a_later_encryption_replaces_an_earlier_one() {
    let mut store = Memory::default();
    store.run(&[put(1, 2, b"second"), put(1, 1, b"first")]);
    let found = |store: &mut Memory| store.one(StoreOp::Content(ContentHash([1; 32])));
    assert_eq!(found(&mut store), StoreAnswer::Content(Some(Bytes(b"second".to_vec()))));
    let digests = store.one(StoreOp::Digests);
    store.run(&[put(1, 3, b"third")]);
    assert_eq!(found(&mut store), StoreAnswer::Content(Some(Bytes(b"third".to_vec()))));
    assert_ne!(store.one(StoreOp::Digests), digests);
    let keys = |generation| vec![RecordKey::Content(ContentHash([1; 32]), generation)];
    let missing = |wanted, store: &mut Memory| {
        store.one(StoreOp::Missing { keys: wanted, with_contents: false })
    };
    assert_eq!(missing(keys(3), &mut store), StoreAnswer::Keys(vec![], false));
    assert_eq!(missing(keys(4), &mut store), StoreAnswer::Keys(keys(4), false));
}

#[test]
fn addresses_are_listed_in_pages() {
    let mut store = Memory::default();
    for task in 0..5 {
        store.one(add(&format!("a/b/c/task-{task}/n"), version(task + 1, 1, task as u8)));
        store.one(add(&format!("z/b/c/task-{task}/n"), version(task + 1, 1, task as u8)));
    }
    let mut scan = |after: Option<&str>, limit| {
        let after = after.map(address);
        match store.one(StoreOp::Scan { prefix: "a/b/".into(), after, limit }) {
            StoreAnswer::Page(rows, more) => {
                let rows: Vec<String> = rows.iter().map(|(at, _)| at.task().to_owned()).collect();
                (rows.join(" "), more)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(scan(None, 3), ("task-0 task-1 task-2".into(), true));
    assert_eq!(scan(Some("a/b/c/task-2/n"), 3), ("task-3 task-4".into(), false));
    assert_eq!(scan(Some("z/b/c/task-2/n"), 3), (String::new(), false), "a cursor of elsewhere");
}

/// All keys of a partition, page by page.
fn keys(store: &mut Memory, partition: Partition) -> Vec<RecordKey> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match store.one(StoreOp::Keys { partition, after: after.take() }) {
            StoreAnswer::Keys(page, more) => {
                all.extend(page);
                if !more {
                    return all;
                }
                after = all.last().cloned();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_copy_by_keys_is_a_copy() {
    let (mut from, mut to) = (Memory::default(), Memory::default());
    // All contents in one partition, and more of them than fit on a page.
    for n in 0..600_u16 {
        let mut hash = [0xff; 32];
        hash[2..4].copy_from_slice(&n.to_be_bytes());
        let content = Bytes(vec![7; 3_000]);
        from.one(StoreOp::Put { hash: ContentHash(hash), generation: 0, content });
    }
    for n in 0..40 {
        from.one(add(&format!("a/b/c/task-{n}/n"), version(u64::from(n) + 1, 2, n)));
    }
    for partition in (0..PARTITIONS).map(Partition) {
        let mut wanted = keys(&mut from, partition);
        while !wanted.is_empty() {
            let page = wanted[..wanted.len().min(RECORD_KEYS_MAX)].to_vec();
            let StoreAnswer::Keys(lacking, _) =
                to.one(StoreOp::Missing { keys: page.clone(), with_contents: false })
            else {
                unreachable!()
            };
            if lacking.is_empty() {
                wanted.drain(..page.len());
                continue;
            }
            let StoreAnswer::Records(records) = from.one(StoreOp::Fetch(lacking)) else {
                unreachable!()
            };
            assert!(!records.is_empty());
            let bytes: usize = records.iter().map(|r| written(r).len()).sum();
            assert!(bytes <= RECORDS_BYTES_MAX + 4_096);
            for record in records {
                to.one(match record {
                    Record::Content(hash, content) => StoreOp::Put { hash, generation: 0, content },
                    Record::Version(address, version) => merge(address.as_str(), version),
                });
            }
        }
    }
    assert_eq!(from.one(StoreOp::Digests), to.one(StoreOp::Digests));
    assert_eq!(from.kept(), to.kept(), "down to the last byte");
}

#[test]
fn tries_of_a_publication_come_to_be_one() {
    let mut store = Memory::default();
    let first = version(5, 1, 1);
    let other = Version { at: Hlc { ms: 7, counter: 0 }, content: ContentHash([9; 32]), ..first };
    store.one(add(HERE, first));
    assert_eq!(store.one(add(HERE, other)), StoreAnswer::Repeated(first, None));
    let settle =
        |version| StoreOp::Add { address: address(HERE), version, settled: true, vouched: SET };
    assert_eq!(store.one(settle(other)), StoreAnswer::Stored);
    let again = Version { at: Hlc { ms: 9, counter: 0 }, ..first };
    assert_eq!(store.one(add(HERE, again)), StoreAnswer::Repeated(other, None));
    let early = Version { at: Hlc { ms: 6, counter: 0 }, ..first };
    assert_eq!(store.one(settle(early)), StoreAnswer::NotGreater(other), "the order still holds");
}

fn find_op(version: Version, vouched: Option<SetId>) -> StoreOp {
    StoreOp::Find { address: address(HERE), request: version.request, vouched }
}

#[test]
fn a_publication_is_found_where_it_was_above_what_was_acknowledged_before() {
    let mut store = Memory::default();
    let (old, new) = (version(5, 1, 1), version(7, 1, 2));
    let merge = |version, vouched| StoreOp::Merge { address: address(HERE), version, vouched };
    let add =
        |version| StoreOp::Add { address: address(HERE), version, settled: false, vouched: SET };
    let find_in = |store: &mut Memory, version: Version, set| {
        store.one(find_op(version, set)) == StoreAnswer::Newest(Some(version))
    };
    let find = |store: &mut Memory, version| find_in(store, version, SET);
    store.one(merge(new, None));
    assert!(find(&mut store, new), "it is the newest, and this holder lacks nothing by now");
    assert!(!find_in(&mut store, new, None), "unless it still gains what others have");
    store.one(merge(old, SET));
    assert!(!find(&mut store, old), "it came below what was there");
    store.one(add(new));
    let newest = version(9, 1, 3);
    store.one(merge(newest, SET));
    assert!(find(&mut store, newest) && find(&mut store, new), "each came above the others");
    assert!(find_in(&mut store, newest, OTHER_SET), "it still is above them");
    assert!(!find_in(&mut store, new, OTHER_SET), "fewer of that set may say so than of this");
    let copied = version(11, 1, 4);
    store.one(merge(copied, None));
    store.one(merge(version(12, 1, 5), None));
    assert!(!find(&mut store, copied), "nobody knows whether it was in order");
}

fn sealed(n: u8) -> Envelope {
    Envelope {
        plain: [n; 32],
        place: PlaceHash::of(&address(HERE), &RequestId([n; 16]), DecisionKind::Code),
        generation: 1,
        roles: vec!["admin".into()],
        signer: PeerId([n; 32]),
        file: Bytes(vec![n; 40]),
        signature: Bytes(vec![n; 64]),
    }
}

/// A content that belongs to a version.
fn content(n: u8) -> StoreOp {
    let content = Content::Sealed(sealed(n));
    StoreOp::Put { hash: content.hash(), generation: 1, content: content.encode() }
}

/// That version.
fn of(n: u8, ms: u64) -> Version {
    let (stamp, request) = ((Hlc { ms, counter: 0 }, MemberId(1)), RequestId([n; 16]));
    Version::new(stamp, &address(HERE), request, DecisionKind::Code, sealed(n).body())
}

#[test]
fn what_is_left_of_a_damaged_table_makes_a_table_without_contradictions() {
    let (mut damaged, mut expected) = (Memory::default(), Memory::default());
    damaged.run(&[content(1), content(2), add(HERE, of(1, 5)), add(HERE, of(2, 6))]);
    damaged.run(&[content(3), add(HERE, of(3, 7))]);
    // A content and the newest version are gone, what was derived from them is still there.
    damaged.0.remove(&content_key(&of(2, 6).content));
    damaged.0.remove(&version_key(&address(HERE), &of(3, 7)));
    // What belongs to another address would be rejected by everybody else.
    damaged.run(&[merge("a/b/c/d/f", of(1, 9))]);
    damaged.0.insert(b"c-is-no-hash".to_vec(), vec![1]);
    let mut found = Vec::new();
    let unreadable = salvage(&damaged, &mut |op| {
        found.push(op);
        Ok(())
    });
    assert_eq!(unreadable, Ok(0));
    let mut made = Memory::default();
    made.run(&found);
    expected.run(&[content(1), content(3), add(HERE, of(1, 5))]);
    assert_eq!(made.kept(), expected.kept());
}

/// A table with a key that can't be read, and so nothing that is read with it.
struct Torn(Memory, Vec<u8>);

impl Table for Torn {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        if key == self.1 { Err(TableError("it is torn".into())) } else { self.0.get(key) }
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let rows = self.0.range(from, to, limit)?;
        let torn = rows.iter().any(|(key, _)| *key == self.1);
        if torn { Err(TableError("it is torn".into())) } else { Ok(rows) }
    }
}

#[test]
fn what_can_not_be_read_is_passed_over() {
    let (mut whole, mut expected) = (Memory::default(), Memory::default());
    for n in 0..=255 {
        let ops = [content(n), merge(HERE, of(n, u64::from(n) + 1))];
        whole.run(&ops);
        if n > 0 {
            expected.run(&ops);
        }
    }
    let damaged = Torn(whole, content_key(&of(0, 1).content));
    let mut found = Vec::new();
    let unreadable = salvage(&damaged, &mut |op| {
        found.push(op);
        Ok(())
    });
    assert!(unreadable.unwrap() > 0);
    let mut made = Memory::default();
    made.run(&found);
    assert_eq!(made.kept(), expected.kept(), "all but one content and its version");
}

/// A table in which nothing from one key up to another one can be read, as often as there are two.
struct Holed(Memory, Vec<[Vec<u8>; 2]>);

impl Table for Holed {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let is_in =
            |[first, last]: &[Vec<u8>; 2]| first.as_slice() <= key && key <= last.as_slice();
        if self.1.iter().any(is_in) {
            Err(TableError("it is torn".into()))
        } else {
            self.0.get(key)
        }
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let rows = self.0.range(from, to, limit)?;
        rows.iter().try_for_each(|(key, _)| self.get(key).map(drop))?;
        Ok(rows)
    }
}

#[test]
fn what_stands_beside_a_place_that_can_not_be_read_is_found() {
    let mut whole = Memory::default();
    let ops = |n: u8| [content(n), merge(HERE, of(n, u64::from(n) + 1))];
    (0..=255).for_each(|n| drop(whole.run(&ops(n))));
    let key = |n: u8| version_key(&address(HERE), &of(n, u64::from(n) + 1));
    for holes in [
        &[(0, 0)][..],
        &[(0, 99)],
        &[(7, 7)],
        &[(7, 200)],
        &[(64, 127)],
        &[(250, 255)],
        &[(7, 7), (100, 200)],
        &[(7, 20), (26, 230)],
    ] {
        let keys = holes.iter().map(|(first, last)| [key(*first), key(*last)]);
        let damaged = Holed(Memory(whole.0.clone()), keys.collect());
        let lost: usize = holes.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
        let mut found = 0;
        let count = &mut |op| {
            found += usize::from(matches!(op, StoreOp::Merge { .. }));
            Ok(())
        };
        let unreadable = salvage(&damaged, count);
        assert_eq!((unreadable, found), (Ok(holes.len() as u64), 256 - lost), "{holes:?}");
    }
}

#[test]
fn a_version_that_is_missing_is_preceded_by_its_content() {
    let mut store = Memory::default();
    store.run(&[put(1, 1, b"one"), add(HERE, version(5, 1, 1))]);
    let key = |request: u8| RecordKey::Version(address(HERE), version(9, 1, request));
    let missing = |store: &mut Memory, with_contents| {
        store.one(StoreOp::Missing { keys: vec![key(1), key(2)], with_contents })
    };
    assert_eq!(missing(&mut store, false), StoreAnswer::Keys(vec![key(1), key(2)], false));
    let content = RecordKey::Content(ContentHash([2; 32]), 0);
    let all = StoreAnswer::Keys(vec![key(1), content, key(2)], false);
    assert_eq!(missing(&mut store, true), all, "the content of the first is here");
}

proptest! {
    /// Whatever order versions are merged in, the store is the same.
    #[test]
    fn merging_is_a_union(stamps in prop::collection::vec((0_u64..5, 1_u64..4, 0_u8..6), 1..12)) {
        let ops: Vec<StoreOp> = stamps
            .iter()
            .map(|(ms, writer, request)| merge(HERE, version(*ms, *writer, *request)))
            .collect();
        let (mut forth, mut back) = (Memory::default(), Memory::default());
        forth.run(&ops);
        ops.iter().rev().for_each(|op| drop(back.one(op.clone())));
        forth.run(&ops);
        prop_assert_eq!(forth.kept(), back.kept());
        for store in [forth, back] {
            let (loaded, none) = (Digests::load(&store).unwrap(), Changed::new());
            let of_keys = Digests::of_keys(&store).unwrap();
            prop_assert!(loaded.with(&none) == of_keys.with(&none));
        }
    }

    #[test]
    fn what_was_added_is_in_order(walls in prop::collection::vec(0_u64..4, 1..20)) {
        let mut store = Memory::default();
        let mut newest = None;
        for (n, wall) in walls.iter().enumerate() {
            let mut stamped = version(0, 1, n as u8);
            stamped.at = Hlc::default().next(Wall(*wall));
            if let StoreAnswer::NotGreater(present) = store.one(add(HERE, stamped)) {
                stamped.at = present.at.next(Wall(*wall));
                prop_assert_eq!(store.one(add(HERE, stamped)), StoreAnswer::Stored);
            }
            prop_assert!(newest < Some(stamped));
            newest = Some(stamped);
            prop_assert_eq!(
                store.one(StoreOp::Newest(address(HERE))),
                StoreAnswer::Newest(newest)
            );
        }
    }
}
