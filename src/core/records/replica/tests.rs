//! What a replica lets in, one question at a time, from members that may say anything.

use crate::core::fixture::Give;
use crate::core::fixture::applied;
use crate::core::records::store::StoreFault;
use crate::core::work::{Done, Work};
use std::time::Duration;

use super::*;
use crate::core::control::Layout;
use crate::core::ctx::{Outbox, Rng};
use crate::core::records::fixture::{here, peer, publication};
use crate::core::records::{Envelope, fixture};
use crate::crypto::keyed::KeyedVault;
use crate::types::record::Hlc;
use crate::types::{LogId, Mono};

mod answers;
mod guards;

/// A replica on member 1, asked by member 2 unless said otherwise.
struct Bench {
    replica: Replica,
    rng: Rng,
    counts: BTreeMap<&'static str, u64>,
    restored: bool,
    next: u64,
}

/// What became of a question.
#[derive(Debug, PartialEq)]
enum Fate {
    /// The store is to do this.
    Kept(Vec<StoreOp>),
    Answered(RecordsAnswer),
    Ignored,
}

const TERM: Term = 4;
const LAYOUT: u64 = 3;
const WALL: Wall = Wall(1_000_000);

fn view(members: u64) -> Arc<View> {
    let current = (1..=members).map(|id| (MemberId(id), Default::default())).collect();
    let members = fixture::members(1..=members);
    let layout = Layout { version: LAYOUT, current, next: None, given_up: [].into() };
    let applied = Some(LogId { term: TERM, index: 10 });
    Arc::new(View { roster: members, layout: layout.into(), applied, ..View::default() })
}

impl Bench {
    fn new(members: u64, whole: bool) -> Self {
        Self::with(members, if whole { Kept::Whole } else { Kept::Unsure })
    }

    fn with(members: u64, kept: Kept) -> Self {
        let replica = Replica::new(MemberId(1), peer(1), Arc::new(KeyedVault(peer(1))), kept);
        let (rng, counts) = (Rng::from_seed([7; 32]), BTreeMap::new());
        let mut bench = Self { replica, rng, counts, restored: false, next: 0 };
        bench.tell(applied(view(members), &[]));
        bench.lease(TERM, 10);
        bench
    }

    fn tell(&mut self, msg: impl Give<Replica>) -> Fate {
        self.call(|replica, ctx| msg.give(replica, ctx))
    }

    fn call(&mut self, call: impl FnOnce(&mut Replica, &mut Ctx<'_, Status>)) -> Fate {
        let mut out = Outbox::default();
        let mut ctx = Ctx { now: Mono(0), wall: WALL, rng: &mut self.rng, out: &mut out };
        call(&mut self.replica, &mut ctx);
        let mut fate = Fate::Ignored;
        for effect in out.effects {
            match effect {
                Effect::Do(_, Work::Records(ops)) => fate = Fate::Kept(ops),
                Effect::Send(_, Message::Records(RecordsMessage::Answer { answer, .. })) => {
                    fate = Fate::Answered(answer);
                }
                Effect::Count(metric, by) => *self.counts.entry(metric.name).or_default() += by,
                Effect::StoreRestored => self.restored = true,
                _ => {}
            }
        }
        fate
    }

    fn lease(&mut self, term: Term, committed: u64) {
        let until = Mono(0) + Duration::from_secs(1);
        self.tell(News::Lease(Some(Lease { term, until, committed })));
    }

    fn ask_by(&mut self, from: u64, (term, layout): (Term, u64), ask: RecordsAsk) -> Fate {
        self.next += 1;
        let message = ReplicaMessage::Ask { id: self.next, term, layout, ask };
        self.tell(Msg::Message { from: peer(from), message })
    }

    fn ask(&mut self, ask: RecordsAsk) -> Fate {
        self.ask_by(2, (TERM, LAYOUT), ask)
    }
}

fn stored(envelope: Envelope) -> Bytes {
    Content::Sealed(envelope).encode()
}

#[test]
fn what_checks_is_handed_to_the_store() {
    let (envelope, version) = publication();
    let (hash, content, generation) = (version.content, stored(envelope), 1);
    let put = StoreOp::Put { hash, generation, content: content.clone() };
    let mut bench = Bench::new(3, true);
    let asked = RecordsAsk::Put { hash, content: content.clone() };
    assert_eq!(bench.ask(asked), Fate::Kept(vec![put.clone()]));
    let partition = Partition::of_address(&here());
    let vouched = placement::set_of(&view(3).layout, MemberId(1), partition);
    assert!(vouched.is_some());
    for settled in [false, true] {
        let add = StoreOp::Add { address: here(), version, settled, vouched };
        let asked = RecordsAsk::Add { address: here(), version, settled };
        assert_eq!(bench.ask(asked), Fate::Kept(vec![add]));
        let content = content.clone();
        let asked = RecordsAsk::Post { address: here(), version, content, settled };
        let post = StoreOp::Post {
            address: here(),
            version,
            generation,
            content: stored(publication().0),
            settled,
            vouched,
        };
        assert_eq!(bench.ask(asked), Fate::Kept(vec![post]));
    }
    // A repair brings what another one wrote.
    let version = Version { writer: MemberId(3), ..version };
    let asked = RecordsAsk::Merge { address: here(), version, content: Some(content) };
    let merge = StoreOp::Merge { address: here(), version, vouched };
    assert_eq!(bench.ask(asked), Fate::Kept(vec![put, merge]));
    assert_eq!(bench.counts, BTreeMap::new());
}

/// Contents that are not this one.
fn lies(good: &Envelope) -> Vec<(&'static str, Bytes)> {
    let altered = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        stored(envelope)
    };
    // Another signer's, under his own signature, and the signer's with other bytes in it.
    let foreign = altered(&|e| {
        e.signer = peer(2);
        *e = e.clone().sign(&KeyedVault(peer(2)));
    });
    vec![
        ("no content", Bytes(vec![0; 40])),
        ("nothing", Bytes::default()),
        ("of another hash", Content::Raw(Bytes(vec![1])).encode()),
        ("of another signer", foreign),
        ("with a forged signature", altered(&|e| e.file.0[0] ^= 1)),
        ("without a signature", altered(&|e| e.signature = Bytes::default())),
    ]
}

#[test]
fn what_does_not_check_is_turned_away_counted_and_never_stored() {
    let (good, version) = publication();
    let hash = version.content;
    let elsewhere: DecisionAddress = "a/b/c/d/elsewhere".parse().unwrap();
    let mut asks: Vec<(String, RecordsAsk)> = Vec::new();
    for (what, content) in lies(&good) {
        let address = here();
        let put = RecordsAsk::Put { hash, content: content.clone() };
        let post = RecordsAsk::Post {
            address: address.clone(),
            version,
            content: content.clone(),
            settled: false,
        };
        let merge = RecordsAsk::Merge { address, version, content: Some(content) };
        asks.extend([put, post, merge].map(|ask| (format!("a content {what}"), ask)));
    }
    let content = stored(good);
    let renamed = Version { content: ContentHash([7; 32]), ..version };
    for (what, address, version) in [
        ("a version of another address", elsewhere, version),
        ("a version of another content", here(), renamed),
    ] {
        let add = RecordsAsk::Add { address: address.clone(), version, settled: true };
        let post = RecordsAsk::Post {
            address: address.clone(),
            version,
            content: content.clone(),
            settled: false,
        };
        let merge = RecordsAsk::Merge { address, version, content: None };
        asks.extend([add, post, merge].map(|ask| (what.to_owned(), ask)));
    }
    let others = Version { writer: MemberId(3), ..version };
    let what = "in the name of another writer".to_owned();
    asks.push((what.clone(), RecordsAsk::Add { address: here(), version: others, settled: false }));
    asks.push((
        what,
        RecordsAsk::Post { address: here(), version: others, content, settled: false },
    ));
    let prefix = "a".repeat(UCXL_TEXT_MAX + 1);
    let scan = RecordsAsk::Scan { prefix, after: None, limit: 1 };
    asks.push(("a listing of more than an address".into(), scan));

    let mut bench = Bench::new(3, true);
    for (number, (what, ask)) in asks.into_iter().enumerate() {
        assert_eq!(bench.ask(ask), Fate::Answered(RecordsAnswer::Rejected), "{what}");
        assert_eq!(bench.counts["bzzz_replica_rejected_total"], number as u64 + 1, "{what}");
    }
}

#[test]
fn stamps_of_a_clock_that_is_ahead_are_turned_away() {
    let (envelope, version) = publication();
    let at = Hlc { ms: u64::MAX, counter: 0 };
    let (version, content) = (Version { at, ..version }, stored(envelope));
    for ask in [
        RecordsAsk::Add { address: here(), version, settled: false },
        RecordsAsk::Post { address: here(), version, content: content.clone(), settled: false },
        RecordsAsk::Merge { address: here(), version, content: None },
    ] {
        let fate = Bench::new(3, true).ask(ask);
        assert_eq!(fate, Fate::Answered(RecordsAnswer::ClockAhead));
    }
}

#[test]
fn a_record_that_this_node_does_not_hold_is_turned_away() {
    let mut bench = Bench::new(9, true);
    let view = view(9);
    let holds = |partition| placement::holds(&view.layout, MemberId(1), partition);
    let (mut held, mut turned_away) = (0, 0);
    for number in 0..64_u8 {
        let content = Content::Raw(Bytes(vec![number]));
        let hash = content.hash();
        match bench.ask(RecordsAsk::Put { hash, content: content.encode() }) {
            Fate::Kept(_) if holds(Partition::of_content(&hash)) => held += 1,
            Fate::Answered(RecordsAnswer::Rejected) => turned_away += 1,
            fate => panic!("{fate:?}"),
        }
    }
    assert!(held > 0 && turned_away > held);
    assert_eq!(bench.counts["bzzz_replica_misplaced_total"], turned_away);
}

#[test]
fn a_holder_vouches_for_the_order_of_what_it_does_not_only_gain() {
    let (_, version) = publication();
    let partition = Partition::of_address(&here());
    let mut view = (*view(9)).clone();
    let now = placement::replica_set(&view.layout.current, partition).members;
    // The same partition has other holders once those that have it now hold nothing.
    let next = view.layout.current.iter().filter(|(id, _)| !now.contains(id));
    let next = next.map(|(id, holder)| (*id, holder.clone())).collect();
    Arc::make_mut(&mut view.layout).next = Some(next);
    let gains = placement::replica_set(view.layout.next.as_ref().unwrap(), partition).members;
    let view = Arc::new(view);
    for (members, is_vouched) in [(&now, true), (&gains, false)] {
        for own in members {
            let vouched = placement::set_of(&view.layout, *own, partition);
            assert_eq!(vouched.is_some(), is_vouched);
            let mut bench = Bench::new(9, true);
            bench.replica =
                Replica::new(*own, peer(own.0), Arc::new(KeyedVault(peer(1))), Kept::Whole);
            bench.tell(applied(view.clone(), &[]));
            bench.lease(TERM, 10);
            let writer = MemberId(if own.0 == 2 { 3 } else { 2 });
            let version = Version { writer, ..version };
            let ask = RecordsAsk::Add { address: here(), version, settled: false };
            let add = StoreOp::Add { address: here(), version, settled: false, vouched };
            let fate = bench.ask_by(writer.0, (TERM, LAYOUT), ask);
            assert_eq!(fate, Fate::Kept(vec![add]), "{own}");
            let request = version.request;
            let ask = RecordsAsk::Find { address: here(), request };
            let find = StoreOp::Find { address: here(), request, vouched };
            assert_eq!(bench.ask_by(writer.0, (TERM, LAYOUT), ask), Fate::Kept(vec![find]));
        }
    }
}

#[test]
fn nothing_is_taken_under_another_layout_or_by_another_term() {
    let (_, version) = publication();
    let add = || RecordsAsk::Add { address: here(), version, settled: false };
    let newest = || RecordsAsk::Newest { address: here() };
    let mut bench = Bench::new(3, true);
    let other_layout = Fate::Answered(RecordsAnswer::OtherLayout(LAYOUT));
    for layout in [LAYOUT - 1, LAYOUT + 1] {
        assert_eq!(bench.ask_by(2, (TERM, layout), add()), other_layout);
        assert_eq!(bench.ask_by(2, (TERM, layout), newest()), other_layout);
    }
    let other_term = |term| Fate::Answered(RecordsAnswer::OtherTerm(term));
    for term in [0, TERM - 1, TERM + 1] {
        assert_eq!(bench.ask_by(2, (term, LAYOUT), add()), other_term(TERM));
        let read = Fate::Kept(vec![StoreOp::Newest(here())]);
        assert_eq!(bench.ask_by(2, (term, LAYOUT), newest()), read, "whoever reads needs no lease");
    }
    // The lease knows of entries that this node has not applied, which may name another layout.
    bench.lease(TERM, 11);
    assert_eq!(bench.ask(add()), other_term(0));
    bench.tell(News::Lease(None));
    assert_eq!(bench.ask(add()), other_term(0));
}

#[test]
fn only_members_are_answered() {
    let newest = || RecordsAsk::Newest { address: here() };
    let mut bench = Bench::new(3, true);
    assert_eq!(bench.ask_by(9, (TERM, LAYOUT), newest()), Fate::Ignored);
    assert_eq!(bench.ask_by(1, (TERM, LAYOUT), newest()), Fate::Ignored, "not over the network");
    assert_ne!(bench.ask_by(3, (TERM, LAYOUT), newest()), Fate::Ignored);
}

#[test]
fn a_store_that_may_have_lost_something_answers_nothing_until_it_has_it_again() {
    let mut bench = Bench::new(3, false);
    let newest = || RecordsAsk::Newest { address: here() };
    let unavailable = Fate::Answered(RecordsAnswer::Unavailable);
    assert_eq!(bench.ask(newest()), unavailable);
    bench.tell(Msg::Restored { layout: LAYOUT - 1 });
    assert!(!bench.restored);
    assert_eq!(bench.ask(newest()), unavailable);
    bench.tell(Msg::Restored { layout: LAYOUT });
    assert!(bench.restored);
    assert_eq!(bench.ask(newest()), Fate::Kept(vec![StoreOp::Newest(here())]));
}

#[test]
fn questions_under_way_are_bounded_and_one_that_comes_again_is_one() {
    let mut bench = Bench::new(3, true);
    let newest = || RecordsAsk::Newest { address: here() };
    for _ in 0..REPLICA_OPEN_MAX {
        assert!(matches!(bench.ask(newest()), Fate::Kept(_)));
    }
    assert_eq!(bench.ask(newest()), Fate::Answered(RecordsAnswer::Unavailable));
    let (id, ask) = (1, newest());
    let message = ReplicaMessage::Ask { id, term: TERM, layout: LAYOUT, ask };
    assert_eq!(bench.tell(Msg::Message { from: peer(2), message }), Fate::Ignored);
}

#[test]
fn a_store_that_is_full_busy_or_failed_does_not_say_that_there_is_none() {
    let none = RecordsAnswer::Content(None);
    let failed = StoreFault::Failed("a read failed".into());
    for (done, expected) in [
        (Err(StoreFault::Full), RecordsAnswer::Unavailable),
        (Err(StoreFault::Busy), RecordsAnswer::Unavailable),
        (Err(failed), RecordsAnswer::Unavailable),
        (Ok(Vec::new()), RecordsAnswer::Unavailable),
        (Ok(vec![StoreAnswer::Content(None)]), none),
    ] {
        let mut bench = Bench::new(3, true);
        let hash = publication().1.content;
        let asked = bench.ask(RecordsAsk::Content { hash });
        assert_eq!(asked, Fate::Kept(vec![StoreOp::Content(hash)]));
        // The first thing that the store was asked.
        let fate = bench.call(|replica, ctx| replica.on_done(ctx, 1, Done::Records(done)));
        assert_eq!(fate, Fate::Answered(expected));
    }
}
