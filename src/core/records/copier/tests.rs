//! What a holder may take for a source, and what it takes from one that may say anything.

use super::*;
use crate::core::control::Holders;
use crate::core::ctx::{Effect, Outbox, Rng};
use crate::core::fixture::Give;
use crate::core::records::fixture::{here, peer, publication};
use crate::core::records::placement::replica_set;
use crate::core::records::{Envelope, fixture};
use crate::core::work::{Done, Work};
use crate::crypto::keyed::KeyedVault;
use crate::types::record::{Hlc, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash};

mod guards;
mod turns;

fn view(layout: Layout, given_up: &[u64]) -> Arc<View> {
    let given_up = given_up.iter().copied().map(MemberId).collect();
    let layout = Arc::new(Layout { given_up, ..layout });
    Arc::new(View { layout, ..View::default() })
}

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Default::default())).collect()
}

#[test]
fn a_holder_whose_store_lost_something_is_no_source_of_its_own() {
    let mut copier =
        Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(KeyedVault(PeerId([1; 32]))));
    let current = holders(&[1, 2, 3, 4, 5]);
    let layout =
        Layout { version: 4, current, next: Some(holders(&[1, 2, 3, 4])), given_up: [].into() };
    copier.view = view(layout, &[]);
    copier.copied_from = [MemberId(2), MemberId(3)].into();
    copier.note_gained();
    assert!(copier.gained && !copier.restored, "with its own that makes three of five");
    copier.restoring = true;
    copier.note_gained();
    assert!(!copier.gained, "of three that have a record it may be the one that lost it");
    copier.copied_from.insert(MemberId(4));
    copier.note_gained();
    assert!(copier.gained && copier.restored);
}

#[test]
fn before_records_have_few_holders_everybody_is_copied_from() {
    let mut copier =
        Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(KeyedVault(PeerId([1; 32]))));
    let (current, next) = (holders(&[1, 2, 3]), holders(&[1, 2, 3, 4, 5, 6, 7, 8]));
    let layout = Layout { version: 4, current, next: Some(next), given_up: [].into() };
    copier.view = view(layout, &[]);
    copier.copied_from = [MemberId(2)].into();
    copier.note_gained();
    assert!(!copier.gained, "3 may be the only one that has a version and its content");
    copier.copied_from.insert(MemberId(3));
    copier.note_gained();
    assert!(copier.gained);
}

#[test]
fn what_an_operator_has_given_up_nobody_waits_for() {
    let mut copier =
        Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(KeyedVault(PeerId([1; 32]))));
    let layout = || Layout {
        version: 4,
        current: holders(&[1, 2, 3]),
        next: Some(holders(&[1, 2])),
        given_up: [].into(),
    };
    copier.view = view(layout(), &[]);
    copier.note_gained();
    assert!(!copier.gained, "one of 2 and 3 is missing");
    copier.view = view(layout(), &[3]);
    copier.note_gained();
    assert!(!copier.gained, "2 is still asked for");
    copier.view = view(layout(), &[2, 3]);
    copier.note_gained();
    assert!(copier.gained);

    copier.restoring = true;
    copier.view = view(layout(), &[]);
    copier.copied_from = [MemberId(3)].into();
    copier.note_gained();
    assert!(!copier.restored, "2 may be the only one that has what this one lost");
    copier.view = view(layout(), &[2]);
    copier.note_gained();
    assert!(copier.restored);
}

#[test]
fn what_nobody_else_can_have_is_not_restored_before_it_is_given_up() {
    let mut version = 0;
    let mut others = |ids: &[u64], next: Option<&[u64]>, given_up: &[u64]| {
        version += 1;
        view(
            Layout { version, current: holders(ids), next: next.map(holders), given_up: [].into() },
            given_up,
        )
    };
    let mut copier =
        Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(KeyedVault(PeerId([1; 32]))));
    copier.restoring = true;
    for (known, alone) in [
        (others(&[1], None, &[]), PARTITIONS),
        // Who gains it from this one has nothing else.
        (others(&[1], Some(&[1, 2]), &[]), PARTITIONS),
        (others(&[1, 2, 3], None, &[2, 3]), PARTITIONS),
        (others(&[1, 2], None, &[]), 0),
        (others(&[2, 3], Some(&[1, 2, 3]), &[]), 0),
        (others(&[2, 3], None, &[]), 0),
    ] {
        copier.view = known;
        copier.copied_from = [MemberId(2), MemberId(3)].into();
        for lost in [true, false] {
            copier.lost = lost;
            copier.note_gained();
            let what = format!("{:?}", copier.view.layout);
            assert_eq!(copier.needs.alone, alone, "{what}");
            assert_eq!(copier.has_lost(), lost && alone > 0, "{what}");
            assert_eq!(copier.restored, !(lost && alone > 0), "{what}");
            assert!(!(copier.gained && copier.has_lost()), "{what}");
        }
    }
    // Those who gain what it holds wait for it: it must not wait for them.
    copier.view = others(&[1], Some(&[1, 2]), &[]);
    copier.copied_from.clear();
    copier.note_gained();
    assert!(copier.restored, "nobody says that anything is lost");
    // Of nine, each partition has three holders: what was in one that lost both others is lost.
    copier.lost = true;
    copier.view = others(&[1, 2, 3, 4, 5, 6, 7, 8, 9], None, &[2, 3, 4]);
    copier.note_gained();
    let layout = &copier.view.layout;
    let is_alone = |number: &u16| {
        let set = replica_set(&layout.current, Partition(*number)).members;
        set.contains(&MemberId(1)) && set.iter().all(|id| id.0 <= 4)
    };
    let alone = (0..PARTITIONS).filter(is_alone).count();
    assert!(alone > 0 && usize::from(copier.needs.alone) == alone, "{alone}");
}

/// A copier on member 1 of three that is copying from one of the others.
struct Bench {
    copier: Copier,
    rng: Rng,
    now: Mono,
    counts: BTreeMap<&'static str, u64>,
    /// What the store was asked to do last, and under which token.
    ops: Option<(u64, Vec<StoreOp>)>,
    /// What was asked of whom last.
    asked: Option<(u64, u64, CopyAsk)>,
    /// What was answered last.
    answered: Option<CopyAnswer>,
}

impl Bench {
    /// Up to the question for digests, with a store that has nothing.
    fn new() -> Self {
        let copier = Copier::new(MemberId(1), peer(1), Arc::new(KeyedVault(peer(1))));
        let (rng, counts) = (Rng::from_seed([7; 32]), BTreeMap::new());
        let (ops, asked, answered) = (None, None, None);
        let mut bench = Self { copier, rng, now: Mono(0), counts, ops, asked, answered };
        let layout =
            Layout { version: 3, current: holders(&[1, 2, 3]), next: None, given_up: [].into() };
        let view =
            View { roster: fixture::members(1..=3), layout: layout.into(), ..View::default() };
        bench.call(|copier, ctx| copier.on_start(ctx));
        bench.tell(Msg::View(Arc::new(view)));
        bench.tell(News::Answering([MemberId(2), MemberId(3)].into()));
        bench.now = bench.now + SOON;
        bench.call(|copier, ctx| copier.on_wake(ctx));
        assert_eq!(bench.ops.as_ref().map(|(_, ops)| ops.clone()), Some(vec![StoreOp::Digests]));
        bench.stored(StoreAnswer::Digests(vec![0; usize::from(PARTITIONS)]));
        assert!(matches!(bench.asked, Some((_, _, CopyAsk::Digests { .. }))));
        bench
    }

    fn call(&mut self, call: impl FnOnce(&mut Copier, &mut Ctx<'_, ()>)) {
        let mut out = Outbox::default();
        let (now, wall) = (self.now, Wall(1_000_000));
        let mut ctx = Ctx { now, wall, rng: &mut self.rng, out: &mut out };
        call(&mut self.copier, &mut ctx);
        for effect in out.effects {
            match effect {
                Effect::Do(token, Work::Records(ops)) => self.ops = Some((token, ops)),
                Effect::Send(to, Message::Copy(CopyMessage::Ask { id, ask, .. })) => {
                    self.asked = Some((u64::from(to.0[0]), id, ask));
                }
                Effect::Send(_, Message::Copy(CopyMessage::Answer { answer, .. })) => {
                    self.answered = Some(answer);
                }
                Effect::Count(metric, by) => *self.counts.entry(metric.name).or_default() += by,
                _ => {}
            }
        }
    }

    fn tell(&mut self, msg: impl Give<Copier>) {
        self.call(|copier, ctx| msg.give(copier, ctx));
    }

    fn stored(&mut self, answer: StoreAnswer) {
        let (token, _) = self.ops.take().expect("the store was asked");
        self.call(|copier, ctx| copier.on_done(ctx, token, Done::Records(Ok(vec![answer]))));
    }

    /// The partner answers what it was asked last.
    fn answer(&mut self, answer: CopyAnswer) {
        let (from, id, _) = self.asked.take().expect("the partner was asked");
        let message = CopyMessage::Answer { id, answer };
        self.tell(Msg::Message { from: peer(from), message });
    }

    /// Up to the question for keys of the partition of `record`, which the partner says differs.
    fn up_to_keys(key: &RecordKey) -> Self {
        let mut bench = Self::new();
        let mut digests = vec![0; usize::from(PARTITIONS)];
        digests[usize::from(partition_of(key).0)] = 1;
        bench.answer(CopyAnswer::Digests(digests));
        let asked = CopyAsk::Keys { partition: partition_of(key), after: None };
        assert_eq!(bench.asked.as_ref().map(|(_, _, ask)| ask.clone()), Some(asked));
        bench
    }

    /// Up to the question for a record.
    fn up_to_fetch(key: &RecordKey) -> Self {
        let mut bench = Self::up_to_keys(key);
        bench.answer(CopyAnswer::Keys(vec![key.clone()], false));
        bench.stored(StoreAnswer::Keys(vec![key.clone()], false));
        let asked = CopyAsk::Fetch { keys: vec![key.clone()] };
        assert_eq!(bench.asked.as_ref().map(|(_, _, ask)| ask.clone()), Some(asked));
        bench
    }

    /// True once the copy was given up for what the partner said, with nothing of it stored.
    fn rejected(&self) -> bool {
        self.copier.copying.is_none()
            && self.counts == BTreeMap::from([("bzzz_copies_rejected_total", 1)])
            && self.ops.is_none()
            && self.asked.is_none()
    }
}

fn partition_of(key: &RecordKey) -> Partition {
    match key {
        RecordKey::Content(hash, _) => Partition::of_content(hash),
        RecordKey::Version(address, _) => Partition::of_address(address),
    }
}

#[test]
fn what_checks_is_copied() {
    let (envelope, version) = publication();
    let content = Content::Sealed(envelope).encode();
    let hash = version.content;
    let mut bench = Bench::up_to_fetch(&RecordKey::Content(hash, 1));
    bench.answer(CopyAnswer::Records(vec![Record::Content(hash, content.clone())]));
    let ops = bench.ops.as_ref().map(|(_, ops)| ops.clone());
    assert_eq!(ops, Some(vec![StoreOp::Put { hash, generation: 1, content }]));
    bench.stored(StoreAnswer::Stored);
    assert!(bench.copier.copying.is_none() && bench.copier.copied_from.len() == 1);
    let counts = [("bzzz_copies_complete_total", 1), ("bzzz_copies_with_news_total", 1)];
    assert_eq!(bench.counts, BTreeMap::from(counts));

    let mut bench = Bench::up_to_fetch(&RecordKey::Version(here(), version));
    bench.answer(CopyAnswer::Records(vec![Record::Version(here(), version)]));
    let ops = bench.ops.as_ref().map(|(_, ops)| ops.clone());
    let vouched =
        placement::set_of(&bench.copier.view.layout, MemberId(1), Partition::of_address(&here()));
    assert!(vouched.is_some());
    assert_eq!(ops, Some(vec![StoreOp::Merge { address: here(), version, vouched }]));
    // What a store lost may be what it has to be above.
    let mut bench = Bench::up_to_fetch(&RecordKey::Version(here(), version));
    bench.copier.restoring = true;
    bench.answer(CopyAnswer::Records(vec![Record::Version(here(), version)]));
    let ops = bench.ops.as_ref().map(|(_, ops)| ops.clone());
    assert_eq!(ops, Some(vec![StoreOp::Merge { address: here(), version, vouched: None }]));
}

#[test]
fn a_member_vouches_in_the_current_set_of_each_partition() {
    let layout = Layout {
        version: 3,
        current: holders(&[1, 2, 3, 4, 5, 6, 7, 8]),
        next: Some(holders(&[1, 2, 3])),
        given_up: [].into(),
    };
    let (mut held, mut gained) = (0, 0);
    for number in 0..64 {
        let address: DecisionAddress = format!("a/b/c/task-{number}/e").parse().unwrap();
        let partition = Partition::of_address(&address);
        let set = replica_set(&layout.current, partition).members;
        let record = Record::Version(address, publication().1);
        let vouched = set_of(&record, &layout, MemberId(1));
        assert_eq!(vouched.is_some(), set.contains(&MemberId(1)));
        *(if vouched.is_some() { &mut held } else { &mut gained }) += 1;
    }
    assert!(held > 0 && gained > 0);
}

#[test]
fn records_that_do_not_check_are_counted_and_never_stored() {
    let (good, version) = publication();
    let hash = version.content;
    let altered = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        Record::Content(hash, Content::Sealed(envelope).encode())
    };
    let foreign = Content::Raw(Bytes(vec![7]));
    for (what, record) in [
        ("no content", Record::Content(hash, Bytes(vec![0; 40]))),
        ("another hash", Record::Content(hash, foreign.encode())),
        ("another key's record", Record::Content(foreign.hash(), foreign.encode())),
        ("another signer", altered(&|e| e.signer = peer(2))),
        ("a forged signature", altered(&|e| e.file.0[0] ^= 1)),
        ("no signature", altered(&|e| e.signature = Bytes::default())),
        ("a version", Record::Version(here(), version)),
    ] {
        let mut bench = Bench::up_to_fetch(&RecordKey::Content(hash, 1));
        bench.answer(CopyAnswer::Records(vec![record]));
        assert!(bench.rejected(), "{what}: {:?}", bench.counts);
    }
    let elsewhere: DecisionAddress = "a/b/c/d/elsewhere".parse().unwrap();
    let later = Version { at: Hlc { ms: 950_000, counter: 0 }, ..version };
    for (what, key, record) in [
        ("another version", (here(), version), (here(), later)),
        ("another address", (here(), version), (elsewhere.clone(), version)),
        // Named like that by the partner itself.
        ("a version of another address", (elsewhere.clone(), version), (elsewhere, version)),
    ] {
        let mut bench = Bench::up_to_fetch(&RecordKey::Version(key.0, key.1));
        bench.answer(CopyAnswer::Records(vec![Record::Version(record.0, record.1)]));
        assert!(bench.rejected(), "{what}: {:?}", bench.counts);
    }
    let mut bench = Bench::up_to_fetch(&RecordKey::Content(hash, 1));
    bench.answer(CopyAnswer::Records(vec![]));
    assert!(bench.rejected(), "what it has named itself is not there");
}

#[test]
fn pages_that_are_none_end_the_copy() {
    let (_, version) = publication();
    let key = RecordKey::Version(here(), version);
    let smaller = RecordKey::Version(here(), Version { at: Hlc::default(), ..version });
    // A partition of 4,096 holds the same hash with another end.
    let in_it = |end: u32| {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&(partition_of(&key).0 << 4).to_be_bytes());
        hash[28..].copy_from_slice(&end.to_be_bytes());
        RecordKey::Content(ContentHash(hash), 1)
    };
    let out_of_it = RecordKey::Content(ContentHash([!(partition_of(&key).0 >> 4) as u8; 32]), 1);
    let too_many = (0..=RECORD_KEYS_MAX as u32).map(in_it).collect();
    for (what, keys) in [
        ("of another partition", vec![out_of_it]),
        ("falling", vec![key.clone(), smaller]),
        ("twice the same", vec![key.clone(), key.clone()]),
        ("too many", too_many),
    ] {
        let mut bench = Bench::up_to_keys(&key);
        bench.answer(CopyAnswer::Keys(keys, true));
        assert!(bench.rejected(), "{what}: {:?}", bench.counts);
    }
    // The page after a page has to go on where that ended.
    let mut bench = Bench::up_to_keys(&key);
    bench.answer(CopyAnswer::Keys(vec![key.clone()], true));
    bench.stored(StoreAnswer::Keys(vec![], false));
    bench.answer(CopyAnswer::Keys(vec![key], true));
    assert!(bench.rejected());
    for digests in [vec![], vec![0; 4_095], vec![0; 4_097]] {
        let mut bench = Bench::new();
        bench.answer(CopyAnswer::Digests(digests));
        assert!(bench.rejected());
    }
}

#[test]
fn only_the_partner_answers_and_only_what_it_was_asked_last() {
    let mut bench = Bench::new();
    let (from, id, _) = bench.asked.clone().unwrap();
    let same = |id| CopyMessage::Answer { id, answer: CopyAnswer::Same };
    for (other, id) in [(5 - from, id), (9, id), (1, id), (from, id + 1), (from, 0)] {
        bench.tell(Msg::Message { from: peer(other), message: same(id) });
        assert!(bench.copier.copying.is_some() && bench.copier.copied_from.is_empty());
    }
    bench.answer(CopyAnswer::Same);
    assert_eq!(bench.copier.copied_from, [MemberId(from)].into());
}

#[test]
fn others_are_given_what_this_holder_has_by_the_same_layout_only() {
    let ask = |bench: &mut Bench, from: u64, layout: u64, ask: CopyAsk| {
        bench.tell(Msg::Message {
            from: peer(from),
            message: CopyMessage::Ask { id: 1, layout, ask },
        });
        bench.answered.take()
    };
    let keys = |number: u16| CopyAsk::Keys { partition: Partition(number), after: None };
    let unavailable = Some(CopyAnswer::Unavailable);
    let (_, version) = publication();
    let many = vec![RecordKey::Version(here(), version); RECORD_KEYS_MAX + 1];
    let mut bench = Bench::new();
    for layout in [2, 4] {
        assert_eq!(ask(&mut bench, 2, layout, keys(0)), unavailable);
    }
    assert_eq!(ask(&mut bench, 2, 3, keys(PARTITIONS)), unavailable);
    assert_eq!(ask(&mut bench, 2, 3, CopyAsk::Fetch { keys: many }), unavailable);
    assert_eq!(ask(&mut bench, 9, 3, keys(0)), None, "strangers are not answered");
    assert_eq!(bench.ops, None);
    assert_eq!(ask(&mut bench, 2, 3, keys(0)), None);
    bench.stored(StoreAnswer::Keys(vec![], false));
    assert_eq!(bench.answered.take(), Some(CopyAnswer::Keys(vec![], false)));
    bench.tell(Msg::Restore { lost: true });
    assert_eq!(ask(&mut bench, 2, 3, keys(0)), unavailable, "others would take its word");
}
