//! How long is waited, and what is said then: each of these fails where its rule is gone.

use super::*;
use crate::core::front::read::Query;
use crate::core::news::News;
use crate::messages::command::HeadsCommand;
use crate::types::limits::{LEASE_LAG_MAX_MS, LEASE_WAIT_MS};

fn call(
    front: &mut Front,
    ms: u64,
    call: impl FnOnce(&mut Front, &mut Ctx<'_, Reply>),
) -> (Vec<Effect<Reply>>, Option<Mono>) {
    let (mut rng, mut out) = (Rng::from_seed([3; 32]), Outbox::default());
    let now = Mono(ms * 1_000);
    call(front, &mut Ctx { now, wall: Wall(1), rng: &mut rng, out: &mut out });
    (out.effects, out.wake_at)
}

fn write() -> Request {
    let (key, author) = ("monitoring/x".to_owned(), String::new());
    let command = Command::Heads(HeadsCommand::Set {
        key,
        expect: Expect::Absent,
        value: Bytes(vec![1]),
        author,
    });
    Request::Write { id: Some(ProposalId([4; 16])), command }
}

#[test]
fn without_a_lease_it_is_the_leader_that_is_missing_and_not_what_was_committed() {
    let mut front = front(1);
    tell(&mut front, News::Answering([MemberId(2)].into()));
    // It lacks what was committed for so long that it proposes nothing.
    let behind = LEASE_LAG_MAX_MS + 10;
    let until = Mono((behind + 100) * 1_000);
    tell(&mut front, News::Lease(Some(Lease { term: 1, until, committed: 99 })));
    call(&mut front, behind, |front, ctx| front.on_request(ctx, write(), ReplyTo(1)));
    let late = behind + LEASE_WAIT_MS;
    let (effects, _) = call(&mut front, late, |front, ctx| front.on_wake(ctx));
    let refused = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Written(Err(refusal))) => Some(refusal.code()),
        _ => None,
    });
    assert_eq!(refused, Some("NO_LEADER"));
}

#[test]
fn nobody_who_waits_wakes_all_the_time() {
    let mut waiting = front(2);
    tell(&mut waiting, News::Answering([MemberId(2)].into()));
    let lease = Lease { term: 1, until: Mono(50_000), committed: 0 };
    tell(&mut waiting, News::Lease(Some(lease)));
    call(&mut waiting, 1, |front, ctx| front.on_request(ctx, write(), ReplyTo(1)));
    for ms in [110, 150, 300] {
        let (_, wake) = call(&mut waiting, ms, |front, ctx| front.on_wake(ctx));
        assert!(wake > Some(Mono(ms * 1_000)), "the lease has run out: {wake:?} at {ms}");
    }

    let mut reading = front(1);
    let query = Query::Key("monitoring/x".into());
    let read = Request::Read { query, stale_ok: false };
    let (effects, _) = call(&mut reading, 1, |front, ctx| {
        front.on_request(ctx, read, ReplyTo(1));
    });
    let nonce = effects.iter().find_map(|effect| match effect {
        Effect::Submit(Op::ReadIndex { nonce }) => Some(*nonce),
        _ => None,
    });
    let indexed = Msg::ReadIndexed { nonce: nonce.expect("it is asked for"), index: Some(50) };
    tell(&mut reading, indexed);
    let (_, wake) = call(&mut reading, 150, |front, ctx| front.on_wake(ctx));
    assert!(wake > Some(Mono(150_000)), "what was committed is on its way: {wake:?}");
}
