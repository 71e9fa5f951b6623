//! What the orchestrator makes of what its duties say.

use std::sync::Mutex;

use super::*;
use crate::core::consensus::{Role, VoterChange};
use crate::core::control::{View, duties};
use crate::core::ctx::{Effect, Rng};
use crate::core::fixture::{self, Give, peer};
use crate::messages::Command;
use crate::messages::command::EvaluationCommand;
use crate::types::{LogId, Wall};

/// Says what a test has told it to say.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<(Look, Vec<String>)>>);

impl Told {
    fn says(&self, look: Look) {
        self.0.lock().unwrap().0 = look;
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Duty for Told {
    fn name(&self) -> &'static str {
        "voters"
    }

    fn begin(&mut self, _sight: &Sight<'_>) {
        self.0.lock().unwrap().1.push("begin".into());
    }

    fn look(&mut self, _sight: &Sight<'_>) -> Look {
        self.0.lock().unwrap().0.clone()
    }

    fn ended(&mut self, _now: Mono, done: bool) {
        self.0.lock().unwrap().1.push(format!("ended {done}"));
    }

    fn gained(&mut self, member: MemberId, layout: u64) {
        self.0.lock().unwrap().1.push(format!("{member} gained {layout}"));
    }
}

struct Bench {
    orchestrator: Orchestrator,
    duty: Told,
    rng: Rng,
    now: Mono,
    wake: Option<Mono>,
}

impl Bench {
    fn new() -> Self {
        let duty = Told::default();
        let duties: Vec<Box<dyn Duty>> = vec![Box::new(duty.clone())];
        let orchestrator = Orchestrator::new(MemberId(1), peer(1), duties, Mono(0));
        Self { orchestrator, duty, rng: Rng::from_seed([1; 32]), now: Mono(1_000), wake: None }
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut Orchestrator, &mut Ctx<'_, Reply>),
    ) -> Vec<Effect<Reply>> {
        let mut out = Outbox::default();
        let wall = Wall(self.now.0 / 1_000);
        let mut ctx = Ctx { now: self.now, wall, rng: &mut self.rng, out: &mut out };
        call(&mut self.orchestrator, &mut ctx);
        self.wake = out.wake_at;
        out.effects
    }

    fn tell(&mut self, what: impl Give<Orchestrator>) -> Vec<Effect<Reply>> {
        self.call(|orchestrator, ctx| what.give(orchestrator, ctx))
    }

    fn leads(&mut self, term: Term, leads: bool) -> Vec<Effect<Reply>> {
        self.tell(News::Role(Role { term, leading: leads, ..Role::default() }))
    }

    fn row(&mut self) -> DutyRow {
        self.orchestrator.table.rows.first().cloned().unwrap_or_default()
    }
}

fn propose(why: &str) -> Look {
    let command = Command::Evaluation(EvaluationCommand::Done);
    Look::act(Step::Propose(command), "note it", why)
}

fn proposed(effects: &[Effect<Reply>]) -> Option<ProposalId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Propose(id, _) => Some(*id),
        _ => None,
    })
}

fn told(effects: &[Effect<Reply>]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::News(News::Duties(table)) => Some(table.version),
        _ => None,
    })
}

fn written() -> Result<Written, Refusal> {
    let outcome = crate::messages::Outcome::Done;
    Ok(Written { outcome, log_id: LogId::default(), lease_term: 4 })
}

#[test]
fn a_step_is_under_way_once_and_what_became_of_it_is_kept() {
    let mut bench = Bench::new();
    bench.duty.says(propose("it is due"));
    assert!(proposed(&bench.tell(News::Linked([].into()))).is_none(), "it does not lead");
    let effects = bench.leads(4, true);
    let id = proposed(&effects).expect("a step");
    assert_eq!(told(&effects), Some(1));
    let row = bench.row();
    assert_eq!((row.plan.as_str(), row.why.as_str(), row.last), ("note it", "it is due", None));
    assert!(proposed(&bench.tell(News::Linked([].into()))).is_none(), "it is under way");
    let stale = bench.call(|o, ctx| o.on_decided(ctx, ProposalId([9; 16]), written()));
    assert!(stale.is_empty(), "of somebody else");

    bench.duty.says(Look::rest("it is done"));
    let effects = bench.call(|o, ctx| o.on_decided(ctx, id, written()));
    assert_eq!(bench.duty.heard(), ["begin", "ended true"]);
    assert!(told(&effects).is_some());
    let row = bench.row();
    let last = row.last.expect("it did something");
    assert_eq!((last.what.as_str(), last.outcome.as_str(), last.term), ("note it", "done", 4));
    assert_eq!((row.plan.as_str(), row.why.as_str()), ("nothing", "it is done"));
    assert_eq!(told(&bench.tell(News::Linked([].into()))), None, "nothing is new");
}

#[test]
fn a_step_that_failed_or_was_lost_comes_again() {
    let mut bench = Bench::new();
    bench.duty.says(propose("it is due"));
    let id = proposed(&bench.leads(4, true)).unwrap();
    let refused = bench.call(|o, ctx| o.on_decided(ctx, id, Err(Refusal::NoLeader)));
    assert_eq!(proposed(&refused), None, "not at once");
    assert_eq!(bench.wake, Some(bench.now + RETRY));
    assert!(bench.row().last.unwrap().outcome.starts_with("not done: "));
    bench.now = bench.now + RETRY;
    let again = bench.call(|o, ctx| o.on_wake(ctx));
    assert!(proposed(&again).is_some());
    let until = bench.wake.expect("a deadline");
    bench.now = until;
    bench.call(|o, ctx| o.on_wake(ctx));
    assert!(bench.row().last.unwrap().outcome.starts_with("nobody knows"));
    assert_eq!(bench.duty.heard(), ["begin", "ended false", "ended false"]);
}

#[test]
fn a_voter_change_ends_as_consensus_says() {
    let mut bench = Bench::new();
    let change = VoterChange::Remove(MemberId(3));
    bench.duty.says(Look::act(Step::Voters(change), "member 3 loses its vote", "it is gone"));
    let effects = bench.leads(4, true);
    assert!(effects.iter().any(|e| matches!(e, Effect::Submit(Op::Voters(c)) if *c == change)));
    bench.duty.says(Look::rest("all vote"));
    bench.tell(Msg::VotersChanged { done: true });
    assert_eq!(bench.row().last.unwrap().what, "member 3 loses its vote");
    assert!(bench.tell(Msg::VotersChanged { done: true }).is_empty(), "told twice");
}

#[test]
fn a_new_leader_goes_on_from_what_the_one_before_has_told() {
    let mut bench = Bench::new();
    let last = DutyStep { what: "before".into(), term: 3, ..DutyStep::default() };
    let row = DutyRow { name: "voters".into(), last: Some(last), ..DutyRow::default() };
    let table = |term, version| DutyTable { term, version, rows: vec![row.clone()] };
    bench.tell(Msg::Told(table(3, 2)));
    bench.tell(Msg::Told(table(3, 1)));
    assert_eq!(bench.orchestrator.table.version, 2, "an older one");
    bench.duty.says(Look::rest("all is well"));
    let effects = bench.leads(4, true);
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Event(EventBody::Duty { on_duty: true, .. })))
    );
    let row = bench.row();
    assert_eq!((row.last.unwrap().what.as_str(), row.why.as_str()), ("before", "all is well"));
    bench.tell(Msg::Told(table(9, 1)));
    assert_eq!(bench.orchestrator.table.term, 4, "it leads itself");
    bench.leads(5, false);
    assert!(bench.call(|o, ctx| o.on_wake(ctx)).is_empty(), "the duties are another one's");
    bench.tell(Msg::Told(table(5, 1)));
    assert_eq!(bench.orchestrator.table.term, 5);
}

#[test]
fn what_ends_once_another_one_leads_is_not_written_into_its_table() {
    let mut bench = Bench::new();
    let change = VoterChange::Remove(MemberId(3));
    bench.duty.says(Look::act(Step::Voters(change), "member 3 loses its vote", "it is gone"));
    bench.leads(4, true);
    bench.leads(5, false);
    bench.tell(Msg::Told(DutyTable { term: 5, version: 7, rows: vec![] }));
    let effects = bench.tell(Msg::VotersChanged { done: false });
    assert_eq!(told(&effects), None);
    let table = &bench.orchestrator.table;
    assert_eq!((table.term, table.version, table.rows.len()), (5, 7, 0));
}

#[test]
fn a_change_of_voters_that_is_under_way_is_not_forgotten_with_the_term() {
    let mut bench = Bench::new();
    let change = VoterChange::Remove(MemberId(3));
    bench.duty.says(Look::act(Step::Voters(change), "member 3 loses its vote", "it is gone"));
    let submits =
        |effects: &[Effect<Reply>]| effects.iter().any(|e| matches!(e, Effect::Submit(_)));
    assert!(submits(&bench.leads(4, true)));
    bench.leads(5, false);
    assert!(!submits(&bench.leads(6, true)), "consensus is still at the first");
    assert!(!submits(&bench.tell(Msg::VotersChanged { done: false })), "not at once");
    bench.now = bench.now + RETRY;
    assert!(submits(&bench.call(|o, ctx| o.on_wake(ctx))));
}

#[test]
fn whoever_is_started_again_on_the_leader_goes_on_from_its_own_table() {
    let mut bench = Bench::new();
    let last = DutyStep { what: "before".into(), term: 4, ..DutyStep::default() };
    let row = DutyRow { name: "voters".into(), last: Some(last.clone()), ..DutyRow::default() };
    bench.tell(News::Duties(Arc::new(DutyTable { term: 4, version: 37, rows: vec![row] })));
    bench.duty.says(Look::rest("all is well"));
    let effects = bench.leads(4, true);
    assert_eq!(told(&effects), Some(38), "others know 37");
    assert_eq!(bench.row().last, Some(last));
}

#[test]
fn what_is_paused_takes_no_step() {
    let mut bench = Bench::new();
    let duties = Arc::new(duties::State { paused: ["voters".to_owned()].into() });
    bench.tell(News::View(Arc::new(View { duties, ..View::default() })));
    bench.duty.says(propose("it is due"));
    assert_eq!(proposed(&bench.leads(4, true)), None);
    assert!(bench.row().why.starts_with("it is paused"));
    let resumed = bench.tell(News::View(Arc::default()));
    assert!(proposed(&resumed).is_some());
}

#[test]
fn who_has_what_it_gains_is_believed_of_itself_alone() {
    let mut bench = Bench::new();
    let roster = fixture::members(1..=3);
    bench.tell(News::View(Arc::new(View { roster, ..View::default() })));
    let gained = |from| Msg::Message { from, message: OrchestratorMessage::Gained { layout: 4 } };
    for from in [peer(2), peer(9), peer(1)] {
        bench.tell(gained(from));
    }
    bench.tell(Msg::Gained { member: MemberId(1), layout: 4 });
    assert_eq!(bench.duty.heard(), ["2 gained 4", "1 gained 4"]);
}

#[test]
fn texts_are_cut_to_what_others_take() {
    let long = short("ä".repeat(DUTY_TEXT_MAX));
    assert!(long.len() <= DUTY_TEXT_MAX && long.ends_with('…'));
    assert_eq!(short("a".repeat(DUTY_TEXT_MAX)).len(), DUTY_TEXT_MAX);
}
