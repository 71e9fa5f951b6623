//! What the front goes by, one rule at a time: each of these fails where its rule is gone.

use crate::core::fixture::Give;
use crate::core::fixture::applied;
use crate::core::news::News;
use crate::messages::command::DutiesCommand;
use crate::messages::command::{HeadsCommand, RosterCommand, TokensCommand};
use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::core::cluster_time::Clocks;
use crate::core::consensus::ProposalAnswer;
use crate::core::control::Change;
use crate::core::election::lease::Lease;
use crate::core::machines::Cast;
use crate::core::refusal::Refusal;
use crate::core::{control, election, gossip};
use crate::messages::wire::NoteBody;
use crate::messages::{Outcome, Proposal};
use crate::types::LogId;
use crate::types::limits::{
    LEASE_LAG_MAX_MS, LEASE_WAIT_MS, PAGE_ROWS_MAX, PROPOSAL_RETRY_MS, READ_TIMEOUT_MS,
    REQUESTS_MAX, WRITE_TIMEOUT_MS,
};

const ID: ProposalId = ProposalId([4; 16]);

fn ms(ms: u64) -> Mono {
    Mono(ms * 1_000)
}

/// A front with a clock, a generator that goes on, and what it wants.
struct Bench {
    front: Front,
    rng: Rng,
    now: Mono,
    wall: Wall,
    wake: Option<Mono>,
}

impl Bench {
    /// Member 1 of two that both vote and answer; `leader` leads.
    fn new(leader: u64) -> Self {
        let mut bench = Self::of(front(leader));
        bench.tell(News::Answering([MemberId(2)].into()));
        bench
    }

    fn of(front: Front) -> Self {
        let rng = Rng::from_seed([3; 32]);
        Self { front, rng, now: ms(1), wall: Wall(5_000), wake: None }
    }

    fn call(&mut self, call: impl FnOnce(&mut Front, &mut Ctx<'_, Reply>)) -> Vec<Effect<Reply>> {
        let mut out = Outbox::default();
        let mut ctx = Ctx { now: self.now, wall: self.wall, rng: &mut self.rng, out: &mut out };
        call(&mut self.front, &mut ctx);
        self.wake = out.wake_at;
        out.effects
    }

    fn tell(&mut self, msg: impl Give<Front>) -> Vec<Effect<Reply>> {
        self.call(|front, ctx| msg.give(front, ctx))
    }

    fn request(&mut self, request: Request) -> Vec<Effect<Reply>> {
        self.call(|front, ctx| front.on_request(ctx, request, ReplyTo(1)))
    }

    fn wake(&mut self, now: Mono) -> Vec<Effect<Reply>> {
        self.now = now;
        self.call(|front, ctx| front.on_wake(ctx))
    }

    fn message(&mut self, message: FrontMessage) -> Vec<Effect<Reply>> {
        self.tell(Msg::Message { from: OTHER, message })
    }

    fn write(&mut self, id: ProposalId) -> Vec<Effect<Reply>> {
        self.request(Request::Write { id: Some(id), command: set_head() })
    }

    fn read(&mut self) -> Vec<Effect<Reply>> {
        let query = Query::Key("monitoring/x".into());
        self.request(Request::Read { query, stale_ok: false })
    }

    fn lease(&mut self, until: Mono, committed: u64) -> Vec<Effect<Reply>> {
        self.tell(News::Lease(Some(Lease { term: 1, until, committed })))
    }

    /// Entries were applied up to this one.
    fn applied(&mut self, index: u64, changes: Vec<Change>) -> Vec<Effect<Reply>> {
        let view = self.status().view;
        let at = Some(LogId { term: 1, index });
        let view = View { applied: at, ..(*view).clone() };
        self.tell(applied(Arc::new(view), &changes))
    }

    fn decided(&mut self, id: ProposalId) -> Vec<Effect<Reply>> {
        let log_id = LogId { term: 1, index: 7 };
        let outcome = Outcome::HeadSet { version: 1 };
        self.applied(7, vec![Change::Decided { id, outcome, log_id }])
    }

    fn status(&mut self) -> Status {
        match self.request(Request::Status).pop() {
            Some(Effect::Reply(_, Reply::Status(status))) => *status,
            other => panic!("{other:?}"),
        }
    }
}

fn set_head() -> Command {
    let (key, expect, author) = ("monitoring/x".to_owned(), Expect::Absent, String::new());
    Command::Heads(HeadsCommand::Set { key, expect, value: Bytes(vec![1]), author })
}

fn create_token() -> Command {
    let (token, secret_hash) = (TokenId([5; 8]), [6; 32]);
    Command::Tokens(TokensCommand::Create { token, secret_hash, expires_at: Wall(9_000), uses: 1 })
}

/// The clocks were compared, and all of them are right.
fn settled() -> News {
    News::Clocks(Clocks { is_settled: true, ..Clocks::default() })
}

/// How a write was answered.
fn written(effects: &[Effect<Reply>]) -> Option<Result<u64, &'static str>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Written(Ok(written))) => Some(Ok(written.lease_term)),
        Effect::Reply(_, Reply::Written(Err(refusal))) => Some(Err(refusal.code())),
        _ => None,
    })
}

/// Whether a read was answered, and as stale.
fn answered(effects: &[Effect<Reply>]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Read(answer)) => Some(answer.staleness.stale),
        _ => None,
    })
}

fn proposal(effects: &[Effect<Reply>]) -> Option<&Proposal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Submit(Op::Propose { proposal, .. }) => Some(proposal),
        _ => None,
    })
}

/// Messages to the other member.
fn sent(effects: &[Effect<Reply>]) -> Vec<&FrontMessage> {
    let to_other = effects.iter().filter_map(|effect| match effect {
        Effect::Send(OTHER, Message::Front(message)) => Some(message),
        _ => None,
    });
    to_other.collect()
}

fn read_index(effects: &[Effect<Reply>]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Submit(Op::ReadIndex { nonce }) => Some(*nonce),
        _ => None,
    })
}

fn count(effects: &[Effect<Reply>], name: &str) -> u64 {
    let of = effects.iter().map(|effect| match effect {
        Effect::Count(metric, by) if metric.name == name => *by,
        _ => 0,
    });
    of.sum()
}

// ---- Writes -------------------------------------------------------------------------------------

#[test]
fn as_many_requests_are_open_as_may_be_and_none_more() {
    let mut bench = Bench::new(1);
    let id = |n: usize| ProposalId((n as u128 + 1).to_le_bytes());
    for n in 0..REQUESTS_MAX - 1 {
        assert_eq!(written(&bench.write(id(n))), None, "{n}");
    }
    assert_eq!(written(&bench.write(id(0))), Some(Err("BUSY")), "that one is under way");
    assert_eq!(answered(&bench.read()), None, "the last one that is taken");
    assert_eq!(bench.status().open, REQUESTS_MAX);
    assert_eq!(written(&bench.write(id(REQUESTS_MAX))), Some(Err("BUSY")));
    assert_eq!(answered(&bench.read()), Some(true), "reads go on, stale");
    assert_eq!(bench.status().open, REQUESTS_MAX);
}

#[test]
fn a_write_waits_for_a_lease_as_long_as_said_and_is_refused_by_what_is_wrong_then() {
    let mut bench = Bench::new(1);
    let effects = bench.write(ID);
    let wanted = |effect: &Effect<Reply>| {
        matches!(effect, Effect::Cast(Cast::Election(election::Msg::LeaseWanted)))
    };
    assert!(effects.iter().any(wanted));
    assert!(proposal(&effects).is_none(), "nothing goes out without a lease");
    assert_eq!(bench.wake, Some(ms(1 + LEASE_WAIT_MS)));
    assert_eq!(written(&bench.wake(Mono(ms(1 + LEASE_WAIT_MS).0 - 1))), None);
    let effects = bench.wake(ms(1 + LEASE_WAIT_MS));
    assert_eq!(written(&effects), Some(Err("NO_LEADER")));
    assert_eq!(count(&effects, "bzzz_front_writes_refused_total"), 1);
    assert_eq!(bench.status().refused, 0, "only what a minority refused is told of");

    bench.tell(News::Answering(BTreeSet::new()));
    assert_eq!(written(&bench.write(ID)), None);
    let effects = bench.wake(Mono(bench.now.0 + LEASE_WAIT_MS * 1_000));
    assert_eq!(written(&effects), Some(Err("READ_ONLY_MINORITY")));
    assert_eq!(bench.status().refused, 1);
    let healed = bench.tell(News::Answering([MemberId(2)].into()));
    let told = healed.iter().find_map(|effect| match effect {
        Effect::Cast(Cast::Gossip(gossip::Msg::Tell(NoteBody::ReadOnly {
            read_only,
            reason,
            refused,
        }))) => Some((*read_only, reason.clone(), *refused)),
        _ => None,
    });
    assert_eq!(told, Some((false, "HEALED".to_owned(), 1)));
    bench.tell(News::Answering(BTreeSet::new()));
    let healed = bench.tell(News::Answering([MemberId(2)].into()));
    let again = healed.iter().any(|effect| {
        matches!(effect, Effect::Event(EventBody::ReadOnly { read_only: false, refused: 0, .. }))
    });
    assert!(again, "it is counted from the last time on: {healed:?}");
}

#[test]
fn what_was_proposed_is_never_refused_only_unknown() {
    let mut bench = Bench::new(1);
    bench.lease(ms(100), 0);
    assert!(proposal(&bench.write(ID)).is_some());
    assert_eq!(written(&bench.wake(ms(1 + LEASE_WAIT_MS))), None, "it may have happened");
    assert_eq!(written(&bench.wake(Mono(ms(1 + WRITE_TIMEOUT_MS).0 - 1))), None);
    let effects = bench.wake(ms(1 + WRITE_TIMEOUT_MS));
    assert_eq!(written(&effects), Some(Err("WRITE_OUTCOME_UNKNOWN")));
    assert_eq!(count(&effects, "bzzz_front_writes_unknown_total"), 1);
}

#[test]
fn a_write_goes_out_again_after_a_while_and_at_once_to_a_new_leader() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    assert!(proposal(&bench.write(ID)).is_some());
    assert_eq!(bench.wake, Some(ms(1 + PROPOSAL_RETRY_MS)));
    assert!(proposal(&bench.wake(Mono(ms(1 + PROPOSAL_RETRY_MS).0 - 1))).is_none());
    assert!(proposal(&bench.wake(ms(1 + PROPOSAL_RETRY_MS))).is_some());
    let same = bench.tell(News::Role(role(1, 2)));
    assert!(proposal(&same).is_none(), "it went to this leader already");
    let effects = bench.tell(News::Role(Role { term: 2, ..role(2, 2) }));
    let sent = sent(&effects);
    assert!(matches!(sent[..], [FrontMessage::Propose { id: ID, .. }]), "{effects:?}");
    // The new one has not taken it: soon, not at once.
    bench.message(FrontMessage::NotProposed { id: ID, leader: None });
    assert_eq!(bench.wake, Some(Mono(bench.now.0 + PROPOSAL_RETRY_MS * 1_000 / 5)));
    let early = bench.wake(Mono(bench.now.0 + 1_000));
    assert!(!early.iter().any(|effect| matches!(effect, Effect::Send(..))));
    let soon = bench.wake(Mono(bench.now.0 + PROPOSAL_RETRY_MS * 1_000 / 5));
    assert!(soon.iter().any(|effect| matches!(effect, Effect::Send(OTHER, _))));
}

#[test]
fn a_decision_is_acknowledged_under_a_lease_only() {
    let mut bench = Bench::new(1);
    bench.lease(ms(50), 0);
    assert!(proposal(&bench.write(ID)).is_some());
    assert_eq!(written(&bench.decided(ProposalId([8; 16]))), None, "another one");
    bench.now = ms(50);
    assert_eq!(written(&bench.decided(ID)), None, "the lease has run out");
    assert_eq!(written(&bench.lease(ms(90), 0)), Some(Ok(1)));
    assert_eq!(bench.status().open, 0);

    bench.now = ms(60);
    bench.write(ID);
    bench.now = ms(90);
    assert_eq!(written(&bench.decided(ID)), None);
    assert_eq!(written(&bench.wake(Mono(ms(90 + 2 * PROPOSAL_RETRY_MS).0 - 1))), None);
    let effects = bench.wake(ms(90 + 2 * PROPOSAL_RETRY_MS));
    assert_eq!(written(&effects), Some(Err("WRITE_OUTCOME_UNKNOWN")), "it did happen");
}

#[test]
fn what_the_cluster_decided_against_is_an_error() {
    let mut bench = Bench::new(1);
    bench.lease(ms(50), 0);
    bench.write(ID);
    let log_id = LogId { term: 1, index: 7 };
    let outcome = Outcome::Refused(Refused::VersionMismatch { current: 3 });
    let effects = bench.applied(7, vec![Change::Decided { id: ID, outcome, log_id }]);
    assert_eq!(written(&effects), Some(Err("VERSION_MISMATCH")));
}

#[test]
fn a_node_that_is_behind_its_lease_for_too_long_proposes_nothing() {
    let mut bench = Bench::new(1);
    bench.applied(5, vec![]);
    bench.lease(ms(10_000), 6);
    let lag = 1 + LEASE_LAG_MAX_MS;
    bench.now = ms(lag);
    assert!(proposal(&bench.write(ID)).is_some(), "not for too long yet");
    assert!(bench.status().mode.writable);
    bench.now = Mono(ms(lag).0 + 1);
    assert_eq!(bench.status().mode.reason.as_deref(), Some("NODE_BEHIND"));
    let other = ProposalId([8; 16]);
    assert!(proposal(&bench.write(other)).is_none());
    let effects = bench.wake(Mono(ms(lag + LEASE_WAIT_MS).0 + 1));
    assert_eq!(written(&effects), Some(Err("NODE_BEHIND")));
    bench.applied(6, vec![]);
    assert!(bench.status().mode.writable);
    assert!(proposal(&bench.write(other)).is_some(), "it has caught up");
}

#[test]
fn a_node_is_writable_while_everything_is_there() {
    let mut bench = Bench::new(2);
    let reason = |bench: &mut Bench| {
        let mode = bench.status().mode;
        assert_eq!(mode.writable, mode.reason.is_none());
        mode.reason
    };
    assert_eq!(reason(&mut bench), None);
    let mode = bench.status().mode;
    assert_eq!((mode.reachable, mode.needed), (2, 2));
    bench.tell(News::Role(Role { leader: None, ..role(2, 2) }));
    assert_eq!(reason(&mut bench).as_deref(), Some("NO_LEADER"));
    bench.tell(News::Role(role(2, 2)));
    bench.tell(News::Answering(BTreeSet::new()));
    assert_eq!(reason(&mut bench).as_deref(), Some("READ_ONLY_MINORITY"));
    bench.tell(News::Answering([MemberId(2)].into()));
    bench.tell(News::Disk(DiskState::Full));
    assert_eq!(reason(&mut bench).as_deref(), Some("DISK_FULL"));
}

#[test]
fn a_command_about_time_waits_until_the_clocks_were_compared() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    let token = |bench: &mut Bench| {
        let command = create_token();
        bench.request(Request::Write { id: Some(ID), command })
    };
    assert!(proposal(&token(&mut bench)).is_none());
    // It may not have applied what is in its log: the last stamp there may be a later one than it knows.
    let view = View { stamp: Wall(4_000), ..(*bench.status().view).clone() };
    bench.tell(applied(Arc::new(view), &[]));
    let other = bench.write(ProposalId([8; 16]));
    let at = proposal(&other).map(|proposal| proposal.at);
    assert_eq!(at, Some(Proposal::NO_TIME), "until then no time goes into the log");
    let unsettled = bench.tell(News::Clocks(Clocks::default()));
    assert!(proposal(&unsettled).is_none());
    let effects = bench.tell(settled());
    let at = proposal(&effects).map(|proposal| (proposal.id, proposal.at));
    assert_eq!(at, Some((ID, Wall(5_000))));

    // Who is the only voter compares with nobody.
    let mut sole = Bench::of(front(1));
    sole.tell(News::Role(role(1, 1)));
    sole.lease(ms(10_000), 0);
    assert!(proposal(&token(&mut sole)).is_some());
    // Whoever does not lead has the leader's time put in.
    let mut follower = Bench::new(2);
    follower.lease(ms(10_000), 0);
    assert_eq!(sent(&token(&mut follower)).len(), 1);
}

#[test]
fn where_no_majority_of_the_clocks_agrees_nothing_about_time_is_taken() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    let split_ms = Some(90_000);
    bench.tell(News::Clocks(Clocks { is_settled: true, split_ms, ..Clocks::default() }));
    let effects = bench.request(Request::Write { id: None, command: create_token() });
    let refusal = effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Written(Err(refusal))) => Some(refusal.clone()),
        _ => None,
    });
    assert_eq!(refusal, Some(Refusal::ClockWrong { ahead_s: 90 }));
    let at = proposal(&bench.write(ID)).map(|proposal| proposal.at);
    assert_eq!(at, Some(Proposal::NO_TIME), "values are written all the same, without that time");
}

#[test]
fn a_leader_that_does_not_know_the_time_says_that_and_no_other_reason() {
    let refused = |leader: u64, lease: bool, clocks: Clocks| {
        let mut bench = Bench::new(leader);
        bench.request(Request::Write { id: Some(ID), command: create_token() });
        bench.tell(News::Clocks(clocks));
        let end = ms(1 + LEASE_WAIT_MS);
        if lease && leader == 1 {
            bench.lease(ms(10_000), 0);
        }
        written(&bench.wake(end))
    };
    let unknown = Clocks::default;
    let split = || Clocks { is_settled: true, split_ms: Some(90_000), ..Clocks::default() };
    assert_eq!(refused(1, true, unknown()), Some(Err("CLOCK_WRONG")));
    assert_eq!(refused(1, true, split()), Some(Err("CLOCK_WRONG")), "it turned out meanwhile");
    assert_eq!(refused(1, false, unknown()), Some(Err("NO_LEADER")), "first of all it has to lead");
    assert_eq!(refused(2, false, unknown()), Some(Err("NO_LEADER")), "the leader's clock counts");
}

// ---- Commands of others -------------------------------------------------------------------------

#[test]
fn a_leader_takes_no_command_of_others_that_is_untimely() {
    let mut bench = Bench::new(1);
    let not_proposed = |effects: &[Effect<Reply>]| {
        matches!(sent(effects)[..], [FrontMessage::NotProposed { id: ID, leader: Some(_) }])
    };
    let propose = |bench: &mut Bench, command: Command| {
        bench.message(FrontMessage::Propose { id: ID, command })
    };
    let effects = propose(&mut bench, create_token());
    assert!(not_proposed(&effects) && proposal(&effects).is_none(), "{effects:?}");
    bench.tell(settled());
    assert!(proposal(&propose(&mut bench, create_token())).is_some());

    bench.tell(News::Role(role(1, 3)));
    let remove = Command::Roster(RosterCommand::Remove { member: MemberId(1), lost: true });
    let effects = propose(&mut bench, remove);
    assert!(not_proposed(&effects) && proposal(&effects).is_none(), "{effects:?}");
}

#[test]
fn whoever_sent_a_proposal_is_told_that_it_was_not_taken() {
    let mut bench = Bench::new(1);
    let id = |n: usize| ProposalId((n as u128 + 1).to_le_bytes());
    let refused = |bench: &mut Bench, id: ProposalId| {
        let answer = ProposalAnswer::Refused { leader: Some(MemberId(2)) };
        sent(&bench.tell(Msg::Answered { id, answer })).len()
    };
    let propose = |bench: &mut Bench, id: ProposalId| {
        bench.message(FrontMessage::Propose { id, command: set_head() });
    };
    propose(&mut bench, ID);
    bench.tell(Msg::Answered { id: ID, answer: ProposalAnswer::Unknown });
    assert_eq!(refused(&mut bench, ID), 1, "only a refusal is passed on");
    assert_eq!(refused(&mut bench, ID), 0, "once");
    propose(&mut bench, ID);
    bench.decided(ID);
    assert_eq!(refused(&mut bench, ID), 0, "it is decided");

    // The oldest ones are forgotten; one that is repeated counts once.
    let max = 4 * REQUESTS_MAX;
    let mut bench = Bench::new(1);
    (0..max).for_each(|n| propose(&mut bench, id(n)));
    propose(&mut bench, id(0));
    propose(&mut bench, id(max));
    assert_eq!([0, 1, max].map(|n| refused(&mut bench, id(n))), [0, 1, 1]);
}

#[test]
fn only_other_members_are_listened_to() {
    let mut bench = Bench::new(1);
    for (from, is_heard) in [(OWN, false), (STRANGER, false), (OTHER, true)] {
        let message = FrontMessage::Propose { id: ID, command: set_head() };
        let effects = bench.tell(Msg::Message { from, message });
        assert_eq!(proposal(&effects).is_some(), is_heard, "{from}");
    }
}

#[test]
fn a_member_that_does_not_join_through_this_cluster_or_twice_is_not_admitted() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    bench.tell(settled());
    let (token, secret, candidate) = (TokenId([5; 8]), [6; 32], candidate(STRANGER));
    let request = JoinMessage::Request { cluster: CLUSTER, token, secret, candidate };
    let effects = bench.tell(Msg::Join { from: STRANGER, message: request });
    let Some(Command::Tokens(TokensCommand::Admit { secret_hash, .. })) =
        proposal(&effects).map(|p| &p.command)
    else {
        panic!("{effects:?}")
    };
    assert_eq!(secret_hash, blake3::hash(&secret).as_bytes(), "the log has no secret");
    let id = proposal(&effects).unwrap().id;
    let (outcome, log_id) = (Outcome::Admitted(MemberId(3)), LogId { term: 1, index: 7 });
    let effects = bench.applied(7, vec![Change::Decided { id, outcome, log_id }]);
    let accepted = effects.iter().any(|effect| {
        matches!(effect, Effect::Send(STRANGER, Message::Join(JoinMessage::Accepted { .. })))
    });
    assert!(accepted, "{effects:?}");
}

#[test]
fn a_machine_of_this_node_hears_what_became_of_its_command() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    let propose = |id| Msg::Propose { by: "orchestrator", id, command: set_head() };
    let heard = |effects: &[Effect<Reply>], id| {
        effects.iter().find_map(|effect| match effect {
            Effect::Decided("orchestrator", of, result) if *of == id => Some(result.is_ok()),
            _ => None,
        })
    };
    let effects = bench.tell(propose(ID));
    assert_eq!(
        proposal(&effects).map(|proposal| proposal.id),
        Some(ID),
        "under the id that it chose"
    );
    assert_eq!(heard(&effects, ID), None);
    let other = ProposalId([8; 16]);
    let effects = bench.tell(Msg::Propose { by: "orchestrator", id: other, command: untold() });
    assert_eq!(heard(&effects, other), Some(false), "not every member understands it");
    let log_id = LogId { term: 1, index: 7 };
    let outcome = Outcome::HeadSet { version: 1 };
    let effects = bench.applied(7, vec![Change::Decided { id: ID, outcome, log_id }]);
    assert_eq!(heard(&effects, ID), Some(true));
}

/// A command above the level of the cluster.
fn untold() -> Command {
    DutiesCommand::Pause { duty: "layout".into() }.into()
}

#[test]
fn nothing_is_proposed_that_not_every_member_understands() {
    let mut bench = Bench::new(1);
    bench.lease(ms(10_000), 0);
    let id = ProposalId([9; 16]);
    let message = FrontMessage::Propose { id, command: untold() };
    let asked = bench.tell(Msg::Message { from: OTHER, message });
    assert!(proposal(&asked).is_none(), "whoever asks for it");
    let own = bench.call(|front, ctx| {
        front.on_request(ctx, Request::Write { id: None, command: untold() }, ReplyTo(1));
    });
    let refused = own.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Written(Err(Refusal::Refused(refused)))) => Some(refused.code()),
        _ => None,
    });
    assert_eq!(refused, Some("LEVEL_TOO_LOW"));
}

// ---- Reads --------------------------------------------------------------------------------------

#[test]
fn a_read_is_answered_once_what_the_leader_named_is_here() {
    let mut bench = Bench::new(1);
    let nonce = read_index(&bench.read()).unwrap();
    assert_eq!(bench.wake, Some(ms(1 + PROPOSAL_RETRY_MS)));
    let none = bench.tell(Msg::ReadIndexed { nonce, index: None });
    assert_eq!(answered(&none), None, "consensus can't say");
    assert!(read_index(&bench.wake(Mono(ms(1 + PROPOSAL_RETRY_MS).0 - 1))).is_none());
    assert_eq!(read_index(&bench.wake(ms(1 + PROPOSAL_RETRY_MS))), Some(nonce), "asked again");
    bench.tell(Msg::ReadIndexed { nonce: nonce ^ 1, index: Some(0) });
    let named = bench.tell(Msg::ReadIndexed { nonce, index: Some(7) });
    assert_eq!(answered(&named), None);
    assert_eq!(answered(&bench.applied(6, vec![])), None);
    bench.now = ms(150);
    assert_eq!(answered(&bench.applied(7, vec![])), Some(false));
    assert_eq!(bench.status().age, Duration::ZERO, "it was current just now");

    // A view that has nothing yet has not the entry 0 either.
    let mut bench = Bench::new(1);
    let nonce = read_index(&bench.read()).unwrap();
    assert_eq!(answered(&bench.tell(Msg::ReadIndexed { nonce, index: Some(0) })), None);
    assert_eq!(answered(&bench.applied(0, vec![])), Some(false));
}

#[test]
fn a_read_that_no_leader_answers_is_answered_stale_in_time() {
    let mut bench = Bench::new(2);
    let effects = bench.read();
    assert!(matches!(sent(&effects)[..], [FrontMessage::ReadIndex { .. }]));
    assert_eq!(answered(&bench.wake(Mono(ms(1 + READ_TIMEOUT_MS).0 - 1))), None);
    assert_eq!(bench.wake, Some(ms(1 + READ_TIMEOUT_MS)));
    assert_eq!(answered(&bench.wake(ms(1 + READ_TIMEOUT_MS))), Some(true));
    assert_eq!(bench.status().age, Duration::from_millis(1 + READ_TIMEOUT_MS), "as old as that");
    bench.lease(ms(10_000), 0);
    assert_eq!(bench.status().age, Duration::ZERO, "a lease says that it is current");
    bench.now = ms(2 + READ_TIMEOUT_MS);
    bench.tell(News::Lease(None));
    assert_eq!(bench.status().age, Duration::from_millis(1));
}

#[test]
fn only_the_leader_can_name_an_index() {
    for (leader, is_heard) in [(2, true), (3, false)] {
        let mut bench = Bench::new(2);
        let effects = bench.read();
        let asked = sent(&effects);
        let [FrontMessage::ReadIndex { nonce }] = asked[..] else { panic!("{asked:?}") };
        let nonce = *nonce;
        bench.tell(News::Role(role(leader, 3)));
        bench.applied(7, vec![]);
        let effects = bench.message(FrontMessage::ReadReady { nonce, index: Some(7) });
        assert_eq!(answered(&effects).is_some(), is_heard, "{leader}");
    }
}

#[test]
fn a_leader_asks_for_others_as_often_as_may_be_and_forgets_what_is_too_late() {
    let mut bench = Bench::new(1);
    let ask = |bench: &mut Bench, nonce| bench.message(FrontMessage::ReadIndex { nonce });
    let mut first = None;
    for nonce in 0..REQUESTS_MAX as u64 {
        let own = read_index(&ask(&mut bench, nonce));
        assert!(own.is_some(), "{nonce}");
        first = first.or(own);
    }
    let no = FrontMessage::ReadReady { nonce: 9, index: None };
    let effects = ask(&mut bench, 9);
    assert_eq!(sent(&effects), [&no]);
    assert_eq!(read_index(&effects), None);
    bench.now = Mono(ms(1 + READ_TIMEOUT_MS).0 - 1);
    assert_eq!(read_index(&ask(&mut bench, 9)), None, "nobody has given up yet");
    let answer = bench.tell(Msg::ReadIndexed { nonce: first.unwrap(), index: Some(4) });
    let yes = FrontMessage::ReadReady { nonce: 0, index: Some(4) };
    assert_eq!(sent(&answer), [&yes], "under the nonce of the one that asked");
    assert!(read_index(&ask(&mut bench, 9)).is_some(), "there is room again");
    bench.now = ms(1 + READ_TIMEOUT_MS);
    assert!(read_index(&ask(&mut bench, 10)).is_some());

    let mut follower = Bench::new(2);
    assert_eq!(sent(&ask(&mut follower, 9)), [&no], "it does not lead");
}

#[test]
fn a_page_has_as_many_rows_as_wanted_within_bounds() {
    let mut view = View::default();
    let head = control::Head {
        version: 1,
        value: Bytes::default(),
        author: String::new(),
        at: Wall(0),
        log_id: LogId::default(),
    };
    let head = Arc::new(head);
    for n in 0..=PAGE_ROWS_MAX {
        Arc::make_mut(&mut view.heads).insert(format!("k/{n:04}").as_str().into(), head.clone());
    }
    let page = |limit: usize, after: Option<&str>| {
        let (prefix, after) = ("k/".to_owned(), after.map(str::to_owned));
        let page = Query::Prefix { prefix, after, limit }.run(&view);
        (page.entries.len(), page.next.is_some())
    };
    assert_eq!(page(0, None), (1, true));
    assert_eq!(page(1, None), (1, true));
    assert_eq!(page(PAGE_ROWS_MAX + 1, None), (PAGE_ROWS_MAX, true));
    assert_eq!(page(PAGE_ROWS_MAX, Some("k/0000")), (PAGE_ROWS_MAX, false), "none is left");
    assert_eq!(page(2, Some("a")), (2, true), "what is before all begins with the first");
}

// ---- Handing over -------------------------------------------------------------------------------

#[test]
fn a_handover_is_begun_where_it_can_be() {
    let ask = |bench: &mut Bench, to: Option<u64>| {
        let effects = bench.request(Request::Transfer { to: to.map(MemberId) });
        let said = effects.iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Transfer(result)) => {
                Some(result.as_ref().map_or_else(Refusal::code, |()| "begun"))
            }
            _ => None,
        });
        let cast = effects.iter().any(|effect| {
            matches!(effect, Effect::Cast(Cast::Election(election::Msg::Transfer { .. })))
        });
        (said.unwrap(), cast, sent(&effects).len())
    };
    let mut leader = Bench::new(1);
    assert_eq!(ask(&mut leader, Some(2)), ("begun", true, 0));
    assert_eq!(ask(&mut leader, None), ("begun", true, 0));
    assert_eq!(ask(&mut leader, Some(7)), ("NO_SUCH_MEMBER", false, 0));
    assert_eq!(ask(&mut leader, Some(1)), ("NO_HANDOVER", false, 0), "it leads already");
    leader.tell(News::Role(role(1, 1)));
    assert_eq!(ask(&mut leader, Some(2)), ("NO_HANDOVER", false, 0), "it does not vote");
    leader.tell(News::Answering(BTreeSet::new()));
    leader.tell(News::Role(role(1, 2)));
    assert_eq!(ask(&mut leader, Some(2)), ("READ_ONLY_MINORITY", false, 0));
    // Three vote, of whom the second one is silent.
    leader.tell(News::Role(role(1, 3)));
    leader.tell(News::Answering([MemberId(3)].into()));
    assert_eq!(ask(&mut leader, Some(2)), ("NO_HANDOVER", false, 0), "it does not answer");

    let mut follower = Bench::new(2);
    assert_eq!(ask(&mut follower, Some(1)), ("begun", false, 1), "this node may lead itself");
    assert_eq!(ask(&mut follower, None), ("begun", false, 1));
    follower.tell(News::Role(Role { leader: None, ..role(2, 2) }));
    assert_eq!(ask(&mut follower, None), ("NO_LEADER", false, 0));

    let transfer = || FrontMessage::Transfer { to: None };
    let cast = |effects: Vec<Effect<Reply>>| {
        matches!(effects[..], [Effect::Cast(Cast::Election(election::Msg::Transfer { to: None }))])
    };
    assert!(cast(Bench::new(1).message(transfer())));
    assert!(Bench::new(2).message(transfer()).is_empty(), "it is not for this node to do");
}

#[test]
fn whoever_is_told_to_go_goes_unless_the_rest_has_no_majority() {
    // Of the voters, those that answer, and who is to go: the rest needs a majority of its own.
    for (voters, answering, member, code) in [
        (3, &[2][..], 3, None),
        (3, &[2], 2, Some("NO_MAJORITY_LEFT")),
        (4, &[2], 4, None),
        (4, &[2], 2, Some("NO_MAJORITY_LEFT")),
        (2, &[2], 9, None),
    ] {
        let mut bench = Bench::new(1);
        let members = (1..=4).map(member_of).collect();
        let view = View { roster: Arc::new(members), ..View::default() };
        bench.tell(applied(Arc::new(view), &[]));
        bench.tell(News::Role(role(1, voters)));
        bench.tell(News::Answering(answering.iter().copied().map(MemberId).collect()));
        let command =
            Command::Roster(RosterCommand::Remove { member: MemberId(member), lost: false });
        let effects = bench.request(Request::Write { id: None, command });
        let said = written(&effects).and_then(Result::err);
        assert_eq!(said, code, "{voters} {answering:?} {member}");
    }
}

fn member_of(id: u64) -> (MemberId, Arc<Member>) {
    member(id, PeerId([u8::try_from(id).unwrap(); 32]))
}
