//! What the copier goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::core::consensus::Role;
use crate::core::machines::Cast;

fn effects(
    bench: &mut Bench,
    call: impl FnOnce(&mut Copier, &mut Ctx<'_, ()>),
) -> (Vec<Effect<()>>, Option<Mono>) {
    let mut out = Outbox::default();
    let (now, wall) = (bench.now, Wall(1_000_000));
    let mut ctx = Ctx { now, wall, rng: &mut bench.rng, out: &mut out };
    call(&mut bench.copier, &mut ctx);
    (out.effects, out.wake_at)
}

/// What the leader, or the coordinator of this node if that leads, is told to have been gained.
fn gained(effects: &[Effect<()>]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(_, Message::Orchestrator(OrchestratorMessage::Gained { layout })) => {
            Some(*layout)
        }
        Effect::Cast(Cast::Orchestrator(orchestrator::Msg::Gained { layout, .. })) => Some(*layout),
        _ => None,
    })
}

fn layout(version: u64, next: Option<&[u64]>) -> Arc<View> {
    let layout = Layout {
        version,
        current: holders(&[1, 2, 3]),
        next: next.map(holders),
        given_up: [].into(),
    };
    Arc::new(View { roster: fixture::members(1..=4), layout: layout.into(), ..View::default() })
}

#[test]
fn a_copy_that_is_not_answered_ends_in_time() {
    let mut bench = Bench::new();
    let until = bench.now + Duration::from_millis(COPY_TIMEOUT_MS);
    bench.now = Mono(until.0 - 1);
    bench.call(|copier, ctx| copier.on_wake(ctx));
    assert!(bench.copier.copying.is_some());
    bench.now = until;
    bench.call(|copier, ctx| copier.on_wake(ctx));
    assert_eq!(bench.counts, BTreeMap::from([("bzzz_copies_timed_out_total", 1)]));
    assert!(bench.copier.copied_from.is_empty());
}

#[test]
fn what_was_begun_under_another_layout_proves_nothing() {
    let mut bench = Bench::new();
    bench.answer(CopyAnswer::Same);
    assert_eq!(bench.copier.copied_from.len(), 1);
    bench.tell(Msg::View(layout(3, None)));
    assert_eq!(bench.copier.copied_from.len(), 1, "it is the same layout");
    bench.tell(Msg::View(layout(4, None)));
    assert!(bench.copier.copied_from.is_empty());

    let mut bench = Bench::new();
    bench.tell(Msg::View(layout(4, None)));
    let of = bench.copier.copying.as_ref().map(|copying| copying.layout);
    assert_ne!(of, Some(3), "that copy is over");
}

#[test]
fn what_is_gained_is_told_to_the_leader_again_and_again() {
    let mut bench = Bench::new();
    bench.tell(Msg::View(layout(4, Some(&[1, 2, 3, 4]))));
    bench.copier.gained = true;
    let wake = |bench: &mut Bench| gained(&effects(bench, |copier, ctx| copier.on_wake(ctx)).0);
    assert_eq!(wake(&mut bench), None, "nobody leads");
    for leader in [1, 3] {
        let told = News::Role(Role { leader: Some(MemberId(leader)), ..Role::default() });
        let (told, _) = effects(&mut bench, |copier, ctx| copier.on_news(ctx, told));
        assert_eq!(gained(&told), Some(4), "{leader}");
        assert_eq!(wake(&mut bench), None, "it was told just now");
        bench.now = bench.now + REPORT;
        assert_eq!(wake(&mut bench), Some(4));
    }
    // Whom the next layout does not name gains nothing.
    bench.tell(Msg::View(layout(5, Some(&[2, 3]))));
    bench.copier.gained = true;
    bench.now = bench.now + REPORT;
    assert_eq!(wake(&mut bench), None);
}

#[test]
fn only_an_answering_holder_is_copied_from_and_only_by_a_holder() {
    let partner = |own: u64, answering: &[u64], copied_from: &[u64], restoring: bool| {
        let mut bench = Bench::new();
        bench.copier.own = MemberId(own);
        bench.copier.view = layout(3, None);
        bench.copier.answering = answering.iter().copied().map(MemberId).collect();
        bench.copier.copied_from = copied_from.iter().copied().map(MemberId).collect();
        bench.copier.restoring = restoring;
        let mut out = Outbox::default();
        let (now, wall) = (bench.now, Wall(1_000_000));
        let mut ctx = Ctx { now, wall, rng: &mut bench.rng, out: &mut out };
        bench.copier.partner(&mut ctx).map(|member| member.0)
    };
    assert_eq!(partner(1, &[2, 4], &[], false), Some(2), "4 holds nothing");
    assert_eq!(partner(1, &[1], &[], false), None, "not from itself");
    assert_eq!(partner(1, &[], &[], false), None);
    assert_eq!(partner(4, &[2, 3], &[], false), None, "it holds nothing");
    assert_eq!(partner(1, &[2], &[2], false), Some(2), "now and then from anybody");
    assert_eq!(partner(1, &[2, 3], &[2], true), Some(3), "each once while it restores");
    assert_eq!(partner(1, &[2], &[2], true), None);
}

#[test]
fn a_sole_holder_that_restores_has_nobody_to_ask_and_one_without_a_layout_has_nothing() {
    let mut bench = Bench::new();
    bench.copier.restoring = true;
    bench.copier.view = Arc::new(View::default());
    bench.copier.note_gained();
    assert!(!bench.copier.restored, "there is no layout yet");
    let current = holders(&[1]);
    bench.copier.view = view(Layout { version: 1, current, next: None, given_up: [].into() }, &[]);
    bench.copier.note_gained();
    assert!(bench.copier.restored);
}

#[test]
fn a_page_of_keys_is_as_long_as_may_be_and_an_empty_one_is_the_last() {
    let (_, version) = publication();
    let key = RecordKey::Version(here(), version);
    let mut bench = Bench::up_to_keys(&key);
    bench.answer(CopyAnswer::Keys(vec![], true));
    bench.stored(StoreAnswer::Keys(vec![], false));
    assert!(bench.copier.copying.is_none(), "there is nothing after nothing");
    assert_eq!(bench.counts.get("bzzz_copies_complete_total"), Some(&1));

    let stamped =
        |ms: u64| RecordKey::Version(here(), Version { at: Hlc { ms, counter: 0 }, ..version });
    for (count, is_taken) in [(RECORD_KEYS_MAX, true), (RECORD_KEYS_MAX + 1, false)] {
        let mut keys: Vec<RecordKey> = (0..count as u64).map(&stamped).collect();
        keys.sort_unstable();
        let mut bench = Bench::up_to_keys(&key);
        bench.answer(CopyAnswer::Keys(keys, false));
        assert_eq!(bench.ops.is_some(), is_taken, "{count}");
    }
}

#[test]
fn a_question_for_digests_is_answered_by_what_differs() {
    let digests = vec![7; usize::from(PARTITIONS)];
    for (root, is_same) in [(root_of(&digests), true), (root_of(&digests) ^ 1, false)] {
        let mut bench = Bench::new();
        let ask = CopyAsk::Digests { root };
        let message = CopyMessage::Ask { id: 1, layout: 3, ask };
        bench.tell(Msg::Message { from: peer(2), message });
        bench.stored(StoreAnswer::Digests(digests.clone()));
        let expected =
            if is_same { CopyAnswer::Same } else { CopyAnswer::Digests(digests.clone()) };
        assert_eq!(bench.answered, Some(expected));
    }
}

#[test]
fn what_is_lost_is_said_again_and_again_but_not_at_once() {
    let mut bench = Bench::new();
    let layout = Layout { version: 5, current: holders(&[1]), next: None, given_up: [].into() };
    bench.copier.view = Arc::new(View {
        roster: fixture::members(1..=4),
        layout: layout.into(),
        ..View::default()
    });
    (bench.copier.restoring, bench.copier.lost) = (true, true);
    bench.copier.note_gained();
    let mut says = |after| {
        bench.now = bench.now + after;
        let (effects, _) = effects(&mut bench, |copier, ctx| copier.report(ctx));
        effects.iter().any(|effect| {
            matches!(effect, Effect::Cast(Cast::Replica(replica::Msg::Lost { layout: 5, .. })))
        })
    };
    assert!(says(Duration::ZERO));
    assert!(!says(REPORT - Duration::from_millis(1)));
    assert!(says(Duration::from_millis(1)));
}
