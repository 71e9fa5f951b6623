//! When it is copied, from whom, and what of an answer is done: each of these fails where its rule is gone.

use super::*;
use crate::core::consensus::Role;
use crate::core::machines::Cast;
use crate::types::limits::REPLICA_OPEN_MAX;

fn layout(current: u64, next: Option<&[u64]>) -> Arc<View> {
    let all: Vec<u64> = (1..=current).collect();
    let layout =
        Layout { version: 4, current: holders(&all), next: next.map(holders), given_up: [].into() };
    Arc::new(View { roster: fixture::members(1..=9), layout: layout.into(), ..View::default() })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Whom it copies from now.
fn partner(bench: &Bench) -> Option<u64> {
    bench.copier.copying.as_ref().map(|copying| copying.partner.0)
}

/// The store says what it has, if it was asked, and the partner that this is the same.
fn copied(bench: &mut Bench) -> u64 {
    let partner = partner(bench).expect("it copies");
    bench.stored(StoreAnswer::Digests(vec![0; usize::from(PARTITIONS)]));
    bench.answer(CopyAnswer::Same);
    partner
}

fn wake(bench: &mut Bench, after: Duration) {
    bench.now = bench.now + after;
    bench.call(|copier, ctx| copier.on_wake(ctx));
}

#[test]
fn who_gains_or_restores_copies_from_one_after_the_other_at_once() {
    for restores in [false, true] {
        let mut bench = Bench::new();
        bench.answer(CopyAnswer::Same);
        bench.tell(Msg::View(layout(3, Some(&[1, 2, 3, 4, 5, 6, 7, 8]))));
        if restores {
            bench.tell(Msg::View(layout(3, None)));
            bench.tell(Msg::Restore { lost: false });
        }
        let first = copied(&mut bench);
        let second = copied(&mut bench);
        assert_eq!((first.min(second), first.max(second)), (2, 3));
        assert_eq!(partner(&bench), None, "nobody is left");
    }
}

#[test]
fn a_copy_that_failed_is_tried_again_soon_and_not_at_once() {
    for restores in [false, true] {
        let mut bench = Bench::new();
        bench.tell(if restores {
            Msg::Restore { lost: false }
        } else {
            Msg::View(layout(3, Some(&[1, 2])))
        });
        // None of them was away.
        bench.copier.back.clear();
        for _ in 0..3 {
            bench.copier.copying = None;
            wake(&mut bench, SOON);
            bench.stored(StoreAnswer::Digests(vec![0; usize::from(PARTITIONS)]));
            bench.answer(CopyAnswer::Unavailable);
            assert_eq!(partner(&bench), None);
            wake(&mut bench, SOON - ms(1));
            assert_eq!(partner(&bench), None);
            wake(&mut bench, ms(1));
            assert!(partner(&bench).is_some());
        }
    }
}

#[test]
fn the_store_has_its_time() {
    let mut bench = Bench::new();
    bench.answer(CopyAnswer::Unavailable);
    wake(&mut bench, SOON);
    assert!(partner(&bench).is_some());
    wake(&mut bench, ms(COPY_TIMEOUT_MS - 1));
    assert!(partner(&bench).is_some() && !bench.counts.contains_key("bzzz_copies_timed_out_total"));
    wake(&mut bench, ms(1));
    assert_eq!(bench.counts.get("bzzz_copies_timed_out_total"), Some(&1));
}

#[test]
fn stores_that_differ_are_not_taken_for_the_same() {
    assert_eq!(root_of(&[1, 2]), root_of(&[1, 2]));
    for other in [&[1, 3][..], &[2, 1], &[1], &[]] {
        assert_ne!(root_of(&[1, 2]), root_of(other), "{other:?}");
    }
}

#[test]
fn a_leader_tells_itself_what_it_has_gained_and_others_send_it() {
    for leader in [1, 3] {
        let mut bench = Bench::new();
        bench.tell(Msg::View(layout(3, Some(&[1, 2, 3, 4]))));
        bench.copier.gained = true;
        let mut out = Outbox::default();
        let (now, wall) = (bench.now, Wall(1_000_000));
        let mut ctx = Ctx { now, wall, rng: &mut bench.rng, out: &mut out };
        let role = Role { leader: Some(MemberId(leader)), ..Role::default() };
        bench.copier.on_news(&mut ctx, News::Role(role));
        let is_cast = |effect: &Effect<()>| matches!(effect, Effect::Cast(Cast::Orchestrator(_)));
        let is_sent = |effect: &Effect<()>| matches!(effect, Effect::Send(to, Message::Orchestrator(_)) if *to == peer(leader));
        assert_eq!(out.effects.iter().any(is_cast), leader == 1);
        assert_eq!(out.effects.iter().any(is_sent), leader == 3);
    }
}

#[test]
fn a_holder_that_has_everything_copies_now_and_then_one_copy_at_a_time() {
    let mut bench = Bench::new();
    bench.answer(CopyAnswer::Same);
    // Member 2 or 3 has come back since it was copied from, and soon after that it is looked once more.
    for _ in 0..2 {
        wake(&mut bench, SOON);
        copied(&mut bench);
    }
    for _ in 0..20 {
        wake(&mut bench, ms(COPY_INTERVAL_MS / 2 - 1));
        assert_eq!(partner(&bench), None);
        wake(&mut bench, ms(COPY_INTERVAL_MS + 1));
        copied(&mut bench);
    }
}

#[test]
fn who_comes_back_is_copied_from_soon_and_before_others() {
    for back in [2, 3] {
        let mut bench = Bench::new();
        bench.answer(CopyAnswer::Same);
        wake(&mut bench, SOON);
        copied(&mut bench);
        let both = [MemberId(2), MemberId(3)];
        bench.tell(News::Answering(both.into_iter().filter(|id| id.0 != back).collect()));
        bench.tell(News::Answering(both.into()));
        assert_eq!(partner(&bench), None, "not at once");
        wake(&mut bench, SOON);
        assert_eq!(copied(&mut bench), back);
    }
}

#[test]
fn only_what_was_news_is_counted_as_news() {
    let mut bench = Bench::new();
    bench.answer(CopyAnswer::Same);
    assert_eq!(bench.counts, BTreeMap::from([("bzzz_copies_complete_total", 1)]));
}

#[test]
fn a_version_comes_after_its_content_while_everybody_holds_everything() {
    let key = RecordKey::Version(here(), publication().1);
    for (holders, with_contents) in [(7, true), (8, false)] {
        let mut bench = Bench::up_to_keys(&key);
        // The copy goes on; only the layout is another one.
        bench.copier.view = layout(holders, None);
        bench.answer(CopyAnswer::Keys(vec![key.clone()], false));
        let keys = vec![key.clone()];
        let ops = bench.ops.take().map(|(_, ops)| ops);
        assert_eq!(ops, Some(vec![StoreOp::Missing { keys, with_contents }]), "{holders}");
    }
}

/// A version of the publication, stamped at that time.
fn stamped(ms: u64) -> (RecordKey, Record) {
    let version = Version { at: Hlc { ms, counter: 0 }, ..publication().1 };
    (RecordKey::Version(here(), version), Record::Version(here(), version))
}

#[test]
fn what_a_partner_leaves_out_it_does_not_have_and_what_it_cut_off_is_asked_for() {
    let all = [1, 2, 3, 4, 5].map(stamped);
    let keys: Vec<RecordKey> = all.iter().map(|(key, _)| key.clone()).collect();
    let mut bench = Bench::up_to_keys(&keys[0]);
    bench.answer(CopyAnswer::Keys(keys.clone(), false));
    bench.stored(StoreAnswer::Keys(keys.clone(), false));
    let (_, _, ask) = bench.asked.clone().unwrap();
    assert_eq!(ask, CopyAsk::Fetch { keys: keys.clone() });
    // The first one is not there, and after the third the answer was full.
    let records = vec![all[1].1.clone(), all[2].1.clone()];
    bench.answer(CopyAnswer::Records(records));
    assert_eq!(bench.ops.as_ref().map(|(_, ops)| ops.len()), Some(2));
    bench.stored(StoreAnswer::Stored);
    let (_, _, ask) = bench.asked.clone().unwrap();
    assert_eq!(ask, CopyAsk::Fetch { keys: keys[3..].to_vec() });
    assert_eq!(bench.copier.copying.as_ref().map(|copying| copying.copied), Some(2));
    bench.answer(CopyAnswer::Records(vec![all[3].1.clone(), all[4].1.clone()]));
    bench.stored(StoreAnswer::Stored);
    assert!(bench.copier.copying.is_none());
    assert_eq!(
        bench.counts,
        BTreeMap::from([("bzzz_copies_complete_total", 1), ("bzzz_copies_with_news_total", 1)])
    );
}

#[test]
fn what_a_wrong_clock_has_stamped_is_passed_over() {
    // By a clock at 1,000 seconds.
    let (ahead, ahead_record) = stamped(2_000_000);
    let (good, good_record) = stamped(900_000);
    let mut bench = Bench::up_to_keys(&good);
    let keys = vec![good, ahead];
    bench.answer(CopyAnswer::Keys(keys.clone(), false));
    bench.stored(StoreAnswer::Keys(keys, false));
    bench.answer(CopyAnswer::Records(vec![good_record, ahead_record]));
    assert_eq!(bench.ops.as_ref().map(|(_, ops)| ops.len()), Some(1));
    bench.stored(StoreAnswer::Stored);
    assert_eq!(
        bench.counts.get("bzzz_copies_complete_total"),
        Some(&1),
        "nothing is left to ask for"
    );
}

#[test]
fn what_is_restored_is_said_again_and_again_until_the_replica_takes_it() {
    let mut bench = Bench::new();
    bench.tell(Msg::View(layout(1, None)));
    let said = |bench: &mut Bench, call: &dyn Fn(&mut Copier, &mut Ctx<'_, ()>)| {
        let mut out = Outbox::default();
        let (now, wall) = (bench.now, Wall(1_000_000));
        call(&mut bench.copier, &mut Ctx { now, wall, rng: &mut bench.rng, out: &mut out });
        let is_said = |effect: &Effect<()>| {
            matches!(effect, Effect::Cast(Cast::Replica(replica::Msg::Restored { layout: 4 })))
        };
        (out.effects.iter().any(is_said), out.wake_at)
    };
    let wake = |copier: &mut Copier, ctx: &mut Ctx<'_, ()>| copier.on_wake(ctx);
    assert!(!said(&mut bench, &wake).0, "it lacks nothing");
    let restore = |copier: &mut Copier, ctx: &mut Ctx<'_, ()>| {
        copier.on_msg(ctx, Msg::Restore { lost: false })
    };
    let (is_said, at) = said(&mut bench, &restore);
    assert!(is_said && at <= Some(bench.now + SOON));
    bench.now = bench.now + SOON - ms(1);
    assert!(!said(&mut bench, &wake).0);
    bench.now = bench.now + ms(1);
    assert!(said(&mut bench, &wake).0);
    let whole = |copier: &mut Copier, ctx: &mut Ctx<'_, ()>| copier.on_msg(ctx, Msg::Whole);
    bench.now = bench.now + SOON;
    assert!(!said(&mut bench, &whole).0);
}

#[test]
fn what_an_operator_gives_up_ends_the_wait_under_the_same_layout() {
    let mut bench = Bench::new();
    let view = layout(3, Some(&[1, 2]));
    bench.tell(Msg::View(view.clone()));
    assert!(!bench.copier.gained);
    let given_up = [MemberId(2), MemberId(3)].into();
    let layout = Arc::new(Layout { given_up, ..(*view.layout).clone() });
    bench.tell(Msg::View(Arc::new(View { layout, ..(*view).clone() })));
    assert!(bench.copier.gained);
}

#[test]
fn as_many_questions_are_in_work_as_may_be() {
    let mut bench = Bench::new();
    bench.ops = None;
    let ask = |bench: &mut Bench| {
        let ask = CopyAsk::Keys { partition: Partition(0), after: None };
        bench.tell(Msg::Message {
            from: peer(2),
            message: CopyMessage::Ask { id: 1, layout: 3, ask },
        });
        bench.answered.take()
    };
    for _ in 0..REPLICA_OPEN_MAX {
        assert_eq!(ask(&mut bench), None);
    }
    assert_eq!(ask(&mut bench), Some(CopyAnswer::Unavailable));
    bench.stored(StoreAnswer::Keys(vec![], false));
    assert_eq!(bench.answered.take(), Some(CopyAnswer::Keys(vec![], false)));
    assert_eq!(ask(&mut bench), None, "one is done");
}

#[test]
fn others_are_given_the_records_that_they_ask_for() {
    let (key, record) = stamped(5);
    let mut bench = Bench::new();
    bench.ops = None;
    for (count, is_given) in [(RECORD_KEYS_MAX, true), (RECORD_KEYS_MAX + 1, false)] {
        let keys = vec![key.clone(); count];
        let ask = CopyAsk::Fetch { keys: keys.clone() };
        let message = CopyMessage::Ask { id: 1, layout: 3, ask };
        bench.tell(Msg::Message { from: peer(2), message });
        if is_given {
            assert_eq!(bench.ops.as_ref().map(|(_, ops)| ops), Some(&vec![StoreOp::Fetch(keys)]));
            bench.stored(StoreAnswer::Records(vec![record.clone()]));
            assert_eq!(bench.answered.take(), Some(CopyAnswer::Records(vec![record.clone()])));
        } else {
            assert_eq!(bench.answered.take(), Some(CopyAnswer::Unavailable));
        }
    }
}
