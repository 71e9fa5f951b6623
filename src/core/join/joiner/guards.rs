//! What a joiner goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::core::ctx::{Outbox, Rng};
use crate::types::Wall;
use crate::types::limits::MEMBERS_MAX;
use std::collections::BTreeMap;

type Answer = Result<Joined, JoinError>;

const MEMBER: PeerId = PeerId([9; 32]);
const OTHER: PeerId = PeerId([8; 32]);
const STRANGER: PeerId = PeerId([7; 32]);

/// A joiner with a clock, that somebody waits for.
struct Bench {
    joiner: Joiner,
    now: Mono,
    wake: Option<Mono>,
}

impl Bench {
    /// With a token that names two members, and these addresses.
    fn new(addresses: &[&str]) -> Self {
        let joiner = tests::new(vec![MEMBER, OTHER], addresses);
        let mut bench = Self { joiner, now: Mono(0), wake: None };
        bench.call(|joiner, ctx| joiner.on_request(ctx, Request::Outcome, ReplyTo(1)));
        bench
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut Joiner, &mut Ctx<'_, Answer>),
    ) -> Vec<Effect<Answer>> {
        let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
        let mut ctx = Ctx { now: self.now, wall: Wall(1), rng: &mut rng, out: &mut out };
        call(&mut self.joiner, &mut ctx);
        self.wake = out.wake_at;
        out.effects
    }

    fn tell(&mut self, msg: Msg) -> Vec<Effect<Answer>> {
        self.call(|joiner, ctx| joiner.on_msg(ctx, msg))
    }

    fn up(&mut self, peer: PeerId, dialled: Option<&str>) -> Vec<Effect<Answer>> {
        let dialled = dialled.map(|text| text.parse().unwrap());
        self.tell(Msg::Up { peer, dialled })
    }

    fn wake(&mut self, now: Mono) -> Vec<Effect<Answer>> {
        self.now = now;
        self.call(|joiner, ctx| joiner.on_wake(ctx))
    }
}

fn ms(ms: u64) -> Mono {
    Mono(ms * 1_000)
}

fn dials(effects: &[Effect<Answer>]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Dial(_))).count()
}

/// Who was asked.
fn asked(effects: &[Effect<Answer>]) -> Vec<PeerId> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Send(to, Message::Join(JoinMessage::Request { .. })) => Some(*to),
        _ => None,
    });
    asked.collect()
}

fn end(effects: &[Effect<Answer>]) -> Option<&Answer> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, answer) => Some(answer),
        _ => None,
    })
}

#[test]
fn addresses_are_dialled_again_and_again_until_a_member_is_connected() {
    let mut bench = Bench::new(&["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(dials(&bench.call(|joiner, ctx| joiner.on_start(ctx))), 2);
    assert_eq!(bench.wake, Some(Mono(0) + DIAL_INTERVAL));
    assert_eq!(dials(&bench.wake(Mono(499_999))), 0);
    assert_eq!(dials(&bench.wake(ms(500))), 2);
    assert_eq!(asked(&bench.up(MEMBER, None)), [MEMBER], "at once");
    assert_eq!(bench.wake, Some(ms(500) + ASK_INTERVAL));
    assert_eq!(dials(&bench.wake(ms(1_000))), 0, "it is connected");
    let effects = bench.tell(Msg::Down(MEMBER));
    assert_eq!((dials(&effects), asked(&effects).len()), (0, 0));
    assert_eq!(dials(&bench.wake(ms(1_499))), 0);
    assert_eq!(dials(&bench.wake(ms(1_500))), 2);
}

#[test]
fn all_members_of_the_token_are_asked_every_second_and_nobody_else_is() {
    let mut bench = Bench::new(&["10.0.0.1:1"]);
    let effects = bench.up(STRANGER, None);
    assert!(asked(&effects).is_empty(), "the secret is not for it");
    assert_eq!(asked(&bench.up(MEMBER, Some("10.0.0.1:1"))), [MEMBER]);
    assert_eq!(asked(&bench.up(OTHER, None)), [OTHER, MEMBER]);
    assert!(asked(&bench.wake(Mono(999_999))).is_empty());
    assert_eq!(asked(&bench.wake(ms(1_000))).len(), 2);
    let reason = "not now".to_owned();
    bench.tell(Msg::Message(MEMBER, JoinMessage::Retry { reason }));
    assert_eq!(bench.wake, Some(ms(1_000) + RETRY_INTERVAL), "sooner");
    assert!(asked(&bench.wake(Mono(1_149_999))).is_empty());
    assert_eq!(asked(&bench.wake(ms(1_150))).len(), 2);
}

#[test]
fn a_stranger_at_an_address_is_let_go_and_ends_it_only_if_nothing_is_left_to_try() {
    let mut bench = Bench::new(&["10.0.0.1:1", "10.0.0.2:1"]);
    let released = |effects: &[Effect<Answer>]| {
        effects.iter().any(|effect| matches!(effect, Effect::Release(STRANGER)))
    };
    assert!(!released(&bench.up(STRANGER, None)), "it came by itself");
    assert!(released(&bench.up(STRANGER, Some("10.0.0.9:1"))), "it is no address of the user");
    bench.up(STRANGER, Some("10.0.0.1:1"));
    bench.tell(Msg::Found(MEMBER, "10.0.0.3:1".parse().unwrap()));
    assert!(end(&bench.up(STRANGER, Some("10.0.0.2:1"))).is_none(), "one was found");
    bench.up(STRANGER, Some("10.0.0.3:1"));
    let effects = bench.up(STRANGER, Some("10.0.0.2:1"));
    let address = "10.0.0.2:1".parse().unwrap();
    let wrong = Err(JoinError::WrongPeer { address, peer: STRANGER });
    assert_eq!(end(&effects), Some(&wrong));
    assert!(bench.wake(ms(600)).is_empty() && bench.wake.is_none(), "it has ended");

    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.up(MEMBER, None);
    let effects = bench.up(STRANGER, Some("10.0.0.1:1"));
    assert!(end(&effects).is_none(), "a member is connected");
}

#[test]
fn what_is_found_is_dialled_at_once_and_known_once() {
    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.wake(Mono(0));
    let found = |at: &str| Msg::Found(MEMBER, at.parse().unwrap());
    assert_eq!(dials(&bench.tell(found("10.0.0.1:1"))), 0, "the user has said so");
    assert_eq!(dials(&bench.tell(found("10.0.0.2:1"))), 2);
    assert_eq!(dials(&bench.tell(found("10.0.0.2:1"))), 0, "again");
    assert_eq!(bench.joiner.found.len(), 1);
    let of_nobody = Msg::Found(STRANGER, "10.0.0.4:1".parse().unwrap());
    assert_eq!(dials(&bench.tell(of_nobody)), 0);
    for port in 2..=FOUND_MAX {
        bench.tell(found(&format!("10.0.0.3:{port}")));
    }
    assert_eq!(bench.joiner.found.len(), FOUND_MAX);
    let first: Address = "10.0.0.2:1".parse().unwrap();
    assert_eq!(bench.joiner.found[0], first, "there was room for it");
}

#[test]
fn it_gives_up_in_time_and_says_what_went_wrong_last() {
    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.tell(Msg::DialFailed("10.0.0.1:1".parse().unwrap(), "refused".into()));
    assert!(end(&bench.wake(Mono(59_999_999))).is_none());
    assert_eq!(bench.wake, Some(Mono(0) + GIVE_UP_AFTER));
    let effects = bench.wake(ms(60_000));
    let Some(Err(JoinError::TimedOut { last, .. })) = end(&effects) else { panic!("{effects:?}") };
    let address: Address = "10.0.0.1:1".parse().unwrap();
    assert_eq!(*last, format!("{address}: refused"));

    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.up(MEMBER, None);
    bench.tell(Msg::Message(MEMBER, JoinMessage::Retry { reason: "x".repeat(1_000) }));
    let effects = bench.wake(ms(60_000));
    let Some(Err(JoinError::TimedOut { last, .. })) = end(&effects) else { panic!("{effects:?}") };
    assert_eq!(last.len(), 200, "what others say is cut");
}

#[test]
fn only_a_member_of_the_token_that_is_connected_can_accept_or_refuse() {
    let roster = |members: usize| -> BTreeMap<MemberId, (PeerId, Vec<Address>)> {
        (1..=members as u64).map(|id| (MemberId(id), (MEMBER, Vec::new()))).collect()
    };
    let accepted = |members: usize| JoinMessage::Accepted {
        member: MemberId(3),
        cluster_name: "c".into(),
        roster: roster(members),
    };
    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.up(MEMBER, None);
    bench.up(STRANGER, None);
    for from in [STRANGER, OTHER] {
        let effects = bench.tell(Msg::Message(from, accepted(2)));
        assert!(end(&effects).is_none(), "{from}");
        let refused = JoinMessage::Refused { reason: Refused::TokenUsed };
        assert!(end(&bench.tell(Msg::Message(from, refused))).is_none(), "{from}");
    }
    let effects = bench.tell(Msg::Message(MEMBER, accepted(MEMBERS_MAX + 1)));
    assert!(end(&effects).is_none(), "more members than there can be");
    let effects = bench.tell(Msg::Message(MEMBER, accepted(MEMBERS_MAX)));
    let Some(Ok(joined)) = end(&effects) else { panic!("{effects:?}") };
    assert_eq!((joined.member, joined.cluster_name.as_str()), (MemberId(3), "c"));
    assert!(joined.roster.members.len() == MEMBERS_MAX && !joined.roster.voted);
    let refused = JoinMessage::Refused { reason: Refused::TokenUsed };
    assert!(end(&bench.tell(Msg::Message(MEMBER, refused))).is_none(), "it has ended");

    let mut bench = Bench::new(&["10.0.0.1:1"]);
    bench.up(MEMBER, None);
    let refused = JoinMessage::Refused { reason: Refused::TokenUsed };
    let effects = bench.tell(Msg::Message(MEMBER, refused));
    assert_eq!(end(&effects), Some(&Err(JoinError::Refused(Refused::TokenUsed))));
}

#[test]
fn a_request_that_nobody_has_answered_may_have_been_decided() {
    // How often a member was asked before it says that it can't tell yet.
    for (asked, is_open) in [(1, false), (2, true)] {
        let mut bench = Bench::new(&["10.0.0.1:1"]);
        bench.up(MEMBER, None);
        for second in 1..asked {
            bench.wake(ms(1_000 * second));
        }
        bench.tell(Msg::Message(MEMBER, JoinMessage::Retry { reason: "not now".into() }));
        bench.tell(Msg::Down(MEMBER));
        let effects = bench.wake(ms(60_000));
        let Some(Err(error)) = end(&effects) else { panic!("{effects:?}") };
        assert_eq!(error.is_open(), is_open, "asked {asked} times");
    }
    assert!(!JoinError::Refused(Refused::TokenUsed).is_open(), "that is an answer");
}
