//! Work that a machine has done off the reactor: answered once, bounded, and not told of once it was
//! cancelled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};

use bzzz::actors::directory::{Addressed, Directory, Slot};
use bzzz::actors::{Driver, Env, Mail};
use bzzz::core::ctx::{Ctx, Effect, ReplyTo};
use bzzz::core::machine::Machine;
use bzzz::core::work::{Done, Task, Work};
use bzzz::ports::Workers;
use bzzz::ports::work::Job;
use bzzz::types::limits::WORK_OPEN_MAX;
use ractor::Actor;

use crate::world::{HandClock, NotingNetwork, env};

/// Work under this token panics.
const FAILS: u64 = 4;

/// Keeps jobs until the test has them done.
#[derive(Default)]
struct HandWorkers {
    jobs: Mutex<Vec<Job>>,
}

impl Workers for HandWorkers {
    fn run(&self, job: Job) -> bool {
        self.jobs.lock().unwrap().push(job);
        true
    }
}

impl HandWorkers {
    fn do_all(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        for job in jobs {
            // As the threads of a node do.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

/// Has done what it is asked to, and keeps what it hears.
#[derive(Default)]
struct Echo(Vec<(u64, String)>);

enum Msg {
    Do(u64),
    Cancel(u64),
}

static SLOT: OnceLock<Slot<Echo>> = OnceLock::new();

impl Addressed for Echo {
    fn slot(_: &Directory) -> &Slot<Self> {
        SLOT.get_or_init(Slot::default)
    }
}

impl Machine for Echo {
    const NAME: &'static str = "echo";
    type Msg = Msg;
    type Request = ();
    type Reply = Vec<(u64, String)>;

    fn on_start(&mut self, _ctx: &mut Ctx<'_, Self::Reply>) {}

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Self::Reply>, msg: Msg) {
        match msg {
            Msg::Do(token) => {
                let task = Task::new("echo", move |cancelled| {
                    assert!(token != FAILS, "this one fails");
                    (token, cancelled.is_set())
                });
                ctx.out.work(token, Work::Compute(task));
            }
            Msg::Cancel(token) => ctx.out.effects.push(Effect::Cancel(token)),
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Self::Reply>, (): (), reply: ReplyTo) {
        ctx.out.reply(reply, self.0.clone());
    }

    fn on_wake(&mut self, _ctx: &mut Ctx<'_, Self::Reply>) {}

    fn on_done(&mut self, _ctx: &mut Ctx<'_, Self::Reply>, token: u64, done: Done) {
        let heard = match done {
            Done::Computed(result) => match result.downcast::<(u64, bool)>() {
                Ok(result) => format!("{result:?}"),
                Err(_) => "something else".to_owned(),
            },
            Done::Busy => "busy".to_owned(),
            Done::Failed => "failed".to_owned(),
            Done::Records(_) => "records".to_owned(),
        };
        self.0.push((token, heard));
    }
}

async fn heard(env: &Env) -> Vec<(u64, String)> {
    loop {
        // It is busy while more waits in its mailbox than it may have.
        match Echo::slot(&env.directory).ask(()).await {
            Ok(heard) => return heard,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn work_is_answered_once_unless_it_was_cancelled_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let journals = Arc::new(bzzz::adapters::FileJournals::open(dir.path()).unwrap());
    let network = NotingNetwork { sent: Box::new(|_, _| {}) };
    let workers = Arc::new(HandWorkers::default());
    let env = env(Arc::new(HandClock::default()), journals, network, workers.clone());
    let (factory, loaded) = (Arc::new(|_: &Env| Ok(Echo::default())), Arc::new(|| {}));
    let driver = Driver::new(env.clone(), factory, loaded);
    let (actor, task) = Actor::spawn(None, driver, ()).await.unwrap();
    let tell = |msg| assert!(Echo::slot(&env.directory).mail(Mail::Msg(msg)));

    (1..=3).for_each(|token| tell(Msg::Do(token)));
    tell(Msg::Cancel(2));
    assert!(heard(&env).await.is_empty(), "nothing is done yet");
    workers.do_all();
    let done = |token: u64| (token, format!("({token}, false)"));
    assert_eq!(heard(&env).await, [done(1), done(3)], "2 was cancelled");
    tell(Msg::Cancel(1));
    assert_eq!(heard(&env).await.len(), 2, "it was done before");

    tell(Msg::Do(FAILS));
    tell(Msg::Do(5));
    heard(&env).await;
    // What was begun under a token before is not what it stands for now.
    tell(Msg::Cancel(5));
    tell(Msg::Do(5));
    heard(&env).await;
    workers.do_all();
    let told = heard(&env).await;
    assert_eq!(told[2..], [(FAILS, "failed".to_owned()), done(5)]);

    let last = 10 + WORK_OPEN_MAX as u64;
    (10..=last).for_each(|token| tell(Msg::Do(token)));
    // The answer to the last one may stand behind the first question.
    heard(&env).await;
    let told = heard(&env).await;
    assert_eq!(told[4..], [(last, "busy".to_owned())], "one more than may be under way");
    workers.do_all();
    assert_eq!(heard(&env).await.len(), 5 + WORK_OPEN_MAX);
    actor.cast(Mail::Stop).unwrap();
    task.await.unwrap();
}

/// Takes nothing.
pub struct NoWorkers;

impl Workers for NoWorkers {
    fn run(&self, _job: Job) -> bool {
        false
    }
}
