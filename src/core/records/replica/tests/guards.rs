//! What a replica goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::core::fixture::Give;
use crate::core::fixture::applied;
use crate::core::machines::Cast;
use crate::core::records::store::StoreFault;
use crate::core::work::Done;
use crate::types::limits::CLOCK_AHEAD_MAX_MS;

fn newest() -> RecordsAsk {
    RecordsAsk::Newest { address: here() }
}

fn add() -> RecordsAsk {
    let (_, version) = publication();
    RecordsAsk::Add { address: here(), version, settled: false }
}

fn effects(bench: &mut Bench, now: Mono, msg: impl Give<Replica>) -> Vec<Effect<Status>> {
    let mut out = Outbox::default();
    let mut ctx = Ctx { now, wall: WALL, rng: &mut bench.rng, out: &mut out };
    msg.give(&mut bench.replica, &mut ctx);
    out.effects
}

#[test]
fn a_write_is_taken_under_a_lease_that_is_good_now_and_known_in_full() {
    let mut bench = Bench::new(3, true);
    let until = Mono(0) + Duration::from_secs(1);
    let asked = |bench: &mut Bench, now: Mono| {
        bench.next += 1;
        let message =
            ReplicaMessage::Ask { id: bench.next, term: TERM, layout: LAYOUT, ask: add() };
        let effects = effects(bench, now, Msg::Message { from: peer(2), message });
        effects.iter().any(|effect| matches!(effect, Effect::Do(..)))
    };
    assert!(asked(&mut bench, Mono(until.0 - 1)));
    assert!(!asked(&mut bench, until), "it has run out");
    // What is committed is in the view, that is up to 10, or is not.
    bench.lease(TERM, 10);
    assert!(asked(&mut bench, Mono(0)));
    bench.lease(TERM, 11);
    assert!(!asked(&mut bench, Mono(0)));
}

#[test]
fn without_a_lease_not_even_its_absence_is_a_term() {
    let mut bench = Bench::new(3, true);
    bench.tell(News::Lease(None));
    let fate = bench.ask_by(2, (0, LAYOUT), add());
    assert_eq!(fate, Fate::Answered(RecordsAnswer::OtherTerm(0)));
}

#[test]
fn stamps_may_be_ahead_by_as_much_as_clocks_may_differ() {
    let (_, version) = publication();
    let add = |ms: u64| {
        let version = Version { at: Hlc { ms, counter: 0 }, ..version };
        RecordsAsk::Add { address: here(), version, settled: false }
    };
    let mut bench = Bench::new(3, true);
    let most = WALL.0 + CLOCK_AHEAD_MAX_MS;
    assert!(matches!(bench.ask(add(most)), Fate::Kept(_)));
    assert_eq!(bench.ask(add(most + 1)), Fate::Answered(RecordsAnswer::ClockAhead));
}

#[test]
fn a_listing_may_begin_with_as_much_as_an_address_has() {
    let scan = |len: usize| RecordsAsk::Scan { prefix: "a".repeat(len), after: None, limit: 1 };
    let mut bench = Bench::new(3, true);
    assert!(matches!(bench.ask(scan(UCXL_TEXT_MAX)), Fate::Kept(_)));
    assert_eq!(bench.ask(scan(UCXL_TEXT_MAX + 1)), Fate::Answered(RecordsAnswer::Rejected));
}

#[test]
fn what_this_node_asks_itself_is_in_its_own_name() {
    let (_, version) = publication();
    for (writer, is_taken) in [(1, true), (2, false)] {
        let version = Version { writer: MemberId(writer), ..version };
        let ask = RecordsAsk::Add { address: here(), version, settled: false };
        let mut bench = Bench::new(3, true);
        let msg = Msg::Ask { id: 1, term: TERM, layout: LAYOUT, ask };
        let fate = bench.tell(msg);
        assert_eq!(matches!(fate, Fate::Kept(_)), is_taken, "{writer}");
    }
}

#[test]
fn a_content_that_comes_along_has_to_be_held_here_too() {
    let layout = view(9).layout.clone();
    let (envelope, version) = publication();
    let content = stored(envelope);
    let mut parted = 0;
    for own in (1..=9).filter(|own| *own != 2).map(MemberId) {
        let holds = |partition| placement::holds(&layout, own, partition);
        let is_here = holds(Partition::of_address(&here()));
        let is_content_here = holds(Partition::of_content(&version.content));
        parted += u32::from(is_here && !is_content_here);
        let mut bench = Bench::new(9, true);
        bench.replica = Replica::new(own, peer(own.0), Arc::new(KeyedVault(peer(1))), Kept::Whole);
        bench.tell(applied(view(9), &[]));
        bench.lease(TERM, 10);
        let mut is_kept = |content: Option<Bytes>| {
            let ask = RecordsAsk::Merge { address: here(), version, content };
            matches!(bench.ask(ask), Fate::Kept(_))
        };
        assert_eq!(is_kept(None), is_here, "{own}");
        assert_eq!(is_kept(Some(content.clone())), is_here && is_content_here, "{own}");
    }
    assert!(parted > 0, "some hold the one and not the other");
}

#[test]
fn an_answer_of_the_store_goes_to_whoever_asked_and_once() {
    let mut bench = Bench::new(3, true);
    let ask = |bench: &mut Bench| {
        let message = ReplicaMessage::Ask { id: 1, term: TERM, layout: LAYOUT, ask: newest() };
        let effects = effects(bench, Mono(0), Msg::Message { from: peer(2), message });
        effects.iter().find_map(|effect| match effect {
            Effect::Do(token, _) => Some(*token),
            _ => None,
        })
    };
    let stored = |bench: &mut Bench, token: u64, result: Result<Vec<StoreAnswer>, StoreFault>| {
        let mut out = Outbox::default();
        let mut ctx = Ctx { now: Mono(0), wall: WALL, rng: &mut bench.rng, out: &mut out };
        bench.replica.on_done(&mut ctx, token, Done::Records(result));
        out.effects.into_iter().find_map(|effect| match effect {
            Effect::Send(to, Message::Records(RecordsMessage::Answer { id, answer })) => {
                Some((to, id, answer))
            }
            _ => None,
        })
    };
    let token = ask(&mut bench).unwrap();
    assert_eq!(ask(&mut bench), None, "the store works on it");
    let none = || Ok(vec![StoreAnswer::Newest(None)]);
    let answer = Some((peer(2), 1, RecordsAnswer::Newest(None)));
    assert_eq!(stored(&mut bench, token, none()), answer);
    assert_eq!(stored(&mut bench, token, none()), None, "it is answered");
    let token = ask(&mut bench).expect("it may be asked again");
    let nothing = Some((peer(2), 1, RecordsAnswer::Unavailable));
    assert_eq!(stored(&mut bench, token, Ok(vec![])), nothing);
}

#[test]
fn the_copier_is_told_of_other_layouts_and_other_members_only() {
    let mut bench = Bench::new(3, true);
    let told = |bench: &mut Bench, view: View| {
        let effects = effects(bench, Mono(0), applied(Arc::new(view), &[]));
        let is_view =
            |e: &Effect<Status>| matches!(e, Effect::Cast(Cast::Copier(copier::Msg::View(_))));
        effects.iter().any(is_view)
    };
    let known = (*bench.replica.standing.view).clone();
    let applied = Some(LogId { term: TERM, index: 11 });
    assert!(!told(&mut bench, View { applied, ..known.clone() }));
    assert!(told(&mut bench, View { roster: fixture::members(1..=4), ..known.clone() }));
    let layout = Layout { version: LAYOUT + 1, ..(*known.layout).clone() };
    let now = (*bench.replica.standing.view).clone();
    assert!(told(&mut bench, View { layout: layout.into(), ..now }));
}

#[test]
fn what_was_restored_is_believed_by_a_lease_that_is_known_in_full_and_once() {
    let mut bench = Bench::new(3, false);
    let restored = |bench: &mut Bench, now: Mono| {
        let effects = effects(bench, now, Msg::Restored { layout: LAYOUT });
        let whole =
            |e: &Effect<Status>| matches!(e, Effect::Cast(Cast::Copier(copier::Msg::Whole)));
        let first = |e: &Effect<Status>| matches!(e, Effect::StoreRestored);
        (effects.iter().any(whole), effects.iter().any(first))
    };
    bench.lease(TERM, 11);
    assert_eq!(restored(&mut bench, Mono(0)), (false, false), "a layout may have come since");
    bench.lease(TERM, 10);
    let over = Mono(0) + Duration::from_secs(1);
    assert_eq!(restored(&mut bench, over), (false, false), "the lease has run out");
    assert_eq!(restored(&mut bench, Mono(0)), (true, true));
    assert_eq!(restored(&mut bench, Mono(0)), (true, false), "the copier has asked again");
}

#[test]
fn a_copier_that_starts_is_told_what_it_has_to_know() {
    for whole in [true, false] {
        let mut bench = Bench::new(3, whole);
        let effects = effects(&mut bench, Mono(0), Msg::CopierStarted);
        let view =
            |e: &Effect<Status>| matches!(e, Effect::Cast(Cast::Copier(copier::Msg::View(_))));
        let restore = |e: &Effect<Status>| {
            matches!(e, Effect::Cast(Cast::Copier(copier::Msg::Restore { .. })))
        };
        assert!(effects.iter().any(view));
        assert_eq!(effects.iter().any(restore), !whole);
    }
}

#[test]
fn what_is_lost_is_said_once_and_never_answered_as_none() {
    for kept in [Kept::Lost, Kept::Unsure, Kept::Whole] {
        let mut bench = Bench::with(1, kept);
        let said = |bench: &mut Bench, layout| {
            let effects = effects(bench, Mono(0), Msg::Lost { layout, partitions: 7 });
            let lost = EventBody::RecordsLost { partitions: 7 };
            effects.iter().filter(|e| matches!(e, Effect::Event(body) if *body == lost)).count()
        };
        assert_eq!(said(&mut bench, LAYOUT + 1), 0, "by a layout that is not in force");
        assert_eq!(said(&mut bench, LAYOUT), usize::from(kept == Kept::Lost));
        assert_eq!(said(&mut bench, LAYOUT), 0, "once");
        assert_eq!(bench.replica.lost_partitions, if kept == Kept::Lost { 7 } else { 0 });
        let ask = Msg::Ask { id: 1, term: TERM, layout: LAYOUT, ask: newest() };
        let effects = effects(&mut bench, Mono(0), ask);
        let is_asked = |e: &Effect<Status>| matches!(e, Effect::Do(..));
        assert_eq!(effects.iter().any(is_asked), kept == Kept::Whole);
    }
}
