//! When somebody may be removed: each of these fails where its rule is gone.

use super::*;
use crate::core::fixture::applied;
use crate::core::news::News;
use crate::core::refusal::Refusal;

/// How things stand, as seen by member 1.
struct World {
    voters: u64,
    members: &'static [u64],
    holders: u64,
    answering: &'static [u64],
}

impl World {
    /// The code of the refusal at once, if there is one. Otherwise it is decided by the log.
    fn refused(&self, member: u64, lost: bool) -> Option<&'static str> {
        let mut front = front(1);
        let of = |id: u64| member_of(id);
        let current = (1..=self.holders).map(|id| (MemberId(id), Default::default())).collect();
        let layout = Layout { version: 1, current, next: None, given_up: [].into() };
        let members = Arc::new(self.members.iter().copied().map(of).collect());
        let view = Arc::new(View { roster: members, layout: layout.into(), ..View::default() });
        tell(&mut front, applied(view, &[]));
        tell(&mut front, News::Role(role(1, self.voters)));
        let answering = self.answering.iter().copied().map(MemberId).collect();
        tell(&mut front, News::Answering(answering));
        removed(&mut front, MemberId(member), lost).map(|refusal| refusal.code())
    }
}

fn member_of(id: u64) -> (MemberId, Arc<Member>) {
    member(id, PeerId([u8::try_from(id).unwrap(); 32]))
}

#[test]
fn whoever_does_not_vote_takes_no_majority_along() {
    let world = World { voters: 3, members: &[1, 2, 3, 4], holders: 0, answering: &[] };
    assert_eq!(world.refused(4, false), None);
    assert_eq!(world.refused(3, false), Some("NO_MAJORITY_LEFT"));
    let alone = World { voters: 1, members: &[1, 2], holders: 0, answering: &[] };
    assert_eq!(alone.refused(1, false), None, "the voters follow the members");
}

#[test]
fn it_comes_back_by_itself_where_more_than_half_of_those_that_stay_answer() {
    // Of the voters 2 and 4 were removed. Without 5 two of four answer, one of which was removed.
    let world = World { voters: 5, members: &[1, 3, 5], holders: 0, answering: &[2, 5] };
    assert_eq!(world.refused(5, false), Some("NO_MAJORITY_LEFT"), "3 is silent");
    let world = World { voters: 5, members: &[1, 5], holders: 0, answering: &[2, 5] };
    assert_eq!(world.refused(5, false), Some("VOTERS_CHANGING"), "1 will be the only one");
}

#[test]
fn records_are_at_risk_by_a_member_that_is_there_and_not_lost() {
    let world = World { voters: 1, members: &[1, 2], holders: 3, answering: &[] };
    assert!(world.refused(2, false).is_some(), "too few of the holders would be left");
    assert_eq!(world.refused(2, true), None, "whoever asks has given them up");
    assert_eq!(world.refused(3, false), None, "it is no member");
    let alone = World { voters: 1, members: &[1], holders: 1, answering: &[] };
    assert_eq!(alone.refused(1, false), None, "that it is the last one is said by the log");
}

#[test]
fn a_handover_is_not_refused_for_a_majority_of_nobody() {
    let mut front = front(1);
    tell(&mut front, News::Role(Role { voters: [].into(), ..role(1, 0) }));
    let mut out = Outbox::default();
    let mut rng = Rng::from_seed([3; 32]);
    let mut ctx = Ctx { now: Mono(1_000), wall: Wall(1), rng: &mut rng, out: &mut out };
    front.on_request(&mut ctx, Request::Transfer { to: None }, ReplyTo(1));
    let refused = out.effects.iter().any(|effect| {
        matches!(effect, Effect::Reply(_, Reply::Transfer(Err(Refusal::Minority { .. }))))
    });
    assert!(!refused);
}

#[test]
fn what_will_not_change_by_itself_is_not_tried_again() {
    for refusal in [Refusal::NoLeader, Refusal::Busy, Refusal::TimedOut, Refusal::DiskFull] {
        assert!(refusal.is_retryable(), "{refusal:?}");
    }
    for refusal in [
        Refusal::DiskFailed,
        Refusal::AddressFull,
        Refusal::NoHandover("it leads already"),
        Refusal::NotFound("nothing".into()),
        Refusal::Refused(Refused::TokenUsed),
    ] {
        assert!(!refusal.is_retryable(), "{refusal:?}");
    }
}
