//! A lease that is passed on.

use super::*;
use crate::core::ctx::{Outbox, Rng};
use crate::core::fixture;
use crate::core::fixture::Give;
use crate::core::overlay::Shape;
use crate::messages::wire::Grant;

mod guards;

const LEADER: MemberId = MemberId(1);
const OWN: MemberId = MemberId(2);
const BELOW: PeerId = PeerId([3; 32]);

fn peer(member: MemberId) -> PeerId {
    fixture::peer(member.0)
}

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000)
}

fn view() -> Arc<View> {
    Arc::new(View { roster: fixture::members(1..=4), ..View::default() })
}

/// A voter of four members that does not lead; in a large cluster if `full_max` is below that.
fn election(full_max: usize, started: Mono) -> Election {
    let shape = Shape { full_max, ..Shape::default() };
    let mut election =
        Election::new(OWN, peer(OWN), Settings { shape, ..Settings::default() }, started);
    let voters = [LEADER, OWN].into();
    tell(&mut election, started, News::View(view()));
    let role = Role { term: 3, leader: Some(LEADER), voters, ..Role::default() };
    tell(&mut election, started, News::Role(role));
    election
}

fn tell(
    election: &mut Election,
    now: Mono,
    msg: impl Give<Election>,
) -> Vec<(PeerId, ElectionMessage)> {
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now, wall: Wall(0), rng: &mut rng, out: &mut out };
    msg.give(election, &mut ctx);
    let sent = out.effects.into_iter().filter_map(|effect| match effect {
        Effect::Send(to, Message::Election(message)) => Some((to, message)),
        _ => None,
    });
    sent.collect()
}

fn asked_below(election: &mut Election, now: Mono) -> Option<Grant> {
    let ask = Msg::Message { from: BELOW, message: ElectionMessage::LeaseAsk { nonce: 7 } };
    tell(election, now, ask).into_iter().find_map(|(to, message)| match message {
        ElectionMessage::LeaseGranted { nonce: 7, grant } if to == BELOW => Some(grant),
        _ => None,
    })
}

fn gives_back(election: &mut Election, now: Mono) -> bool {
    let revoke = ElectionMessage::LeaseRevoke { term: 3 };
    let sent = tell(election, now, Msg::Message { from: peer(LEADER), message: revoke });
    sent.contains(&(peer(LEADER), ElectionMessage::LeaseRevoked { term: 3 }))
}

#[test]
fn a_holder_passes_on_what_is_left_and_does_not_give_it_back() {
    let mut holder = election(2, at(0));
    assert_eq!(asked_below(&mut holder, at(900)), None, "it holds none");
    holder.holder.hold(Lease { term: 3, until: at(1_200), committed: 5 });
    let grant = asked_below(&mut holder, at(1_000)).unwrap();
    assert_eq!((grant.term, grant.committed, grant.remaining_us), (3, 5, 200_000));
    assert!(!gives_back(&mut holder, at(1_010)), "somebody may hold what was passed on");
    assert_eq!(asked_below(&mut holder, at(1_020)), None, "its own is gone");
    assert!(!gives_back(&mut holder, at(1_000) + HELD_FOR - Duration::from_millis(1)));
    assert!(gives_back(&mut holder, at(1_000) + HELD_FOR));
}

#[test]
fn a_holder_that_was_restarted_does_not_know_what_it_has_passed_on() {
    let mut holder = election(2, at(1_000));
    assert!(!gives_back(&mut holder, at(1_100)));
    assert!(gives_back(&mut holder, at(1_000) + HELD_FOR));
}

#[test]
fn in_a_small_cluster_only_the_leader_grants() {
    let mut holder = election(48, at(0));
    holder.holder.hold(Lease { term: 3, until: at(1_200), committed: 5 });
    assert_eq!(asked_below(&mut holder, at(1_000)), None);
    assert!(gives_back(&mut holder, at(1_010)));
}
