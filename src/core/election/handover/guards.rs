//! What a handover goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;

const OWN: MemberId = MemberId(1);

fn table(points: &[(u64, u16)]) -> BTreeMap<MemberId, Scores> {
    let scores = |overall: u16| Scores { overall, ..Scores::default() };
    points.iter().map(|(member, overall)| (MemberId(*member), scores(*overall))).collect()
}

/// Who takes over after this has been so for a while.
fn after(seconds: u64, points: &[(u64, u16)]) -> Option<MemberId> {
    let (scores, mut challenge) = (table(points), Challenge::default());
    assert_eq!(challenge.look(Mono(0), OWN, &scores, false), None, "not at once");
    let now = Mono(seconds * 1_000_000);
    challenge.look(now, OWN, &scores, false).map(|(member, _)| member)
}

#[test]
fn whoever_is_fitter_by_the_margin_for_the_window_takes_over() {
    let second = Some(MemberId(2));
    assert_eq!(after(30, &[(1, 5_000), (2, 5_000 + MARGIN)]), second);
    assert_eq!(after(30, &[(1, 5_000), (2, 5_000 + MARGIN - 1)]), None);
    assert_eq!(after(29, &[(1, 5_000), (2, 5_000 + MARGIN)]), None);
    assert_eq!(after(30, &[(1, 9_000), (2, 5_000)]), None);
    assert_eq!(after(30, &[(1, 9_000)]), None, "there is nobody else");
    assert_eq!(after(30, &[(1, 1_000), (2, 9_000), (3, 9_000)]), second, "of equals the first");
    assert_eq!(after(30, &[(2, 2_000)]), second, "this one has no score");
}

#[test]
fn a_day_takes_less_of_a_margin_and_no_window() {
    let daily = |lead: u16| {
        let scores = table(&[(1, 5_000), (2, 5_000 + lead)]);
        Challenge::default().look(Mono(0), OWN, &scores, true).map(|(member, _)| member)
    };
    assert_eq!(daily(MARGIN_DAILY), Some(MemberId(2)));
    assert_eq!(daily(MARGIN_DAILY - 1), None);
}

#[test]
fn the_window_is_one_members_own() {
    let (second, third) =
        (table(&[(1, 5_000), (2, 7_000)]), table(&[(1, 5_000), (2, 7_000), (3, 8_000)]));
    let mut challenge = Challenge::default();
    let at = |second: u64| Mono(second * 1_000_000);
    challenge.look(at(0), OWN, &second, false);
    assert_eq!(challenge.look(at(30), OWN, &third, false), None, "another one is the fittest");
    assert_eq!(challenge.look(at(59), OWN, &third, false), None);
    let (member, reason) = challenge.look(at(60), OWN, &third, false).unwrap();
    assert_eq!((member, reason.as_str()), (MemberId(3), "30.0 points fitter for 30 s"));
    // Nobody else is there for a moment.
    challenge.look(at(61), OWN, &table(&[(1, 5_000)]), false);
    assert_eq!(challenge.look(at(62), OWN, &third, false), None, "from the beginning");
}

#[test]
fn points_are_told_with_one_digit() {
    assert_eq!([points(0), points(1_059), points(990)], ["0.0", "10.5", "9.9"]);
}

#[test]
fn a_target_is_asked_at_intervals_once_no_lease_is_out() {
    let mut handover = Handover::new(MemberId(2), Mono(5));
    assert_eq!(handover.step(Mono(5), Some(Mono(9))), Step::Wait(Mono(9)));
    assert_eq!(handover.step(Mono(4), None), Step::Wait(Mono(5)));
    let mut now = Mono(5);
    for _ in 0..ASKS_MAX {
        assert_eq!(handover.step(now, None), Step::Ask);
        now = now + ASK_INTERVAL;
    }
    assert_eq!(handover.step(Mono(6), None), Step::Spent);
}

#[test]
fn a_target_that_is_not_ready_is_looked_at_again_and_asked_as_often_as_any() {
    let (mut handover, mut now) = (Handover::new(MemberId(2), Mono(0)), Mono(0));
    for _ in 1..REFUSALS_MAX {
        assert_eq!(handover.step(now, None), Step::Ask);
        assert!(handover.refuse(now));
        assert_eq!(handover.step(now, None), Step::Wait(now + READY_INTERVAL));
        now = now + READY_INTERVAL;
    }
    for _ in 0..ASKS_MAX {
        assert_eq!(handover.step(now, None), Step::Ask);
        now = now + ASK_INTERVAL;
    }
    assert_eq!(handover.step(now, None), Step::Spent);
}

#[test]
fn only_a_target_that_nobody_can_have_asked_is_given_up() {
    let (mut handover, mut now) = (Handover::new(MemberId(2), Mono(0)), Mono(0));
    for look in 1..=REFUSALS_MAX {
        assert_eq!(handover.step(now, None), Step::Ask);
        assert_eq!(handover.refuse(now), look < REFUSALS_MAX);
        now = now + READY_INTERVAL;
    }
    let mut asked = Handover::new(MemberId(2), now);
    assert_eq!(asked.step(now, None), Step::Ask);
    now = now + ASK_INTERVAL;
    for _ in 0..2 * REFUSALS_MAX {
        assert_eq!(asked.step(now, None), Step::Ask);
        assert!(asked.refuse(now), "the first may have reached it");
        now = now + READY_INTERVAL;
    }
    assert_eq!(
        (asked.step(now, None), asked.step(now, None)),
        (Step::Ask, Step::Wait(now + ASK_INTERVAL))
    );
}
