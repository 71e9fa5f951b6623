//! A supervisor and its children.

use std::sync::Arc;
use std::time::Duration;

use bzzz::actors::{ActorState, Env};
use bzzz::adapters::FileJournals;
use bzzz::core::restart::{RestartType, Strategy};
use bzzz::supervisors::supervisor::Loaded;
use bzzz::supervisors::{ChildSpec, Supervisor, SupervisorMsg, SupervisorSpec};
use bzzz::types::limits::START_DEADLINE;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use crate::work::NoWorkers;
use crate::world::{HandClock, NotingNetwork, env};

/// What a child is told.
enum ChildMsg {
    Load,
    Fail,
    Stop,
}

/// A child that tells what happens to it.
struct Child {
    name: &'static str,
    log: mpsc::UnboundedSender<String>,
    /// None for a child that never gets ready.
    loaded: Option<Loaded>,
}

impl Actor for Child {
    type Msg = ChildMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ChildMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        self.log.send(format!("start {}", self.name))?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ChildMsg>,
        message: ChildMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChildMsg::Load => {
                if let Some(loaded) = &self.loaded {
                    loaded();
                }
                Ok(())
            }
            ChildMsg::Fail => Err("it failed".into()),
            ChildMsg::Stop => {
                self.log.send(format!("stop {}", self.name))?;
                myself.stop(None);
                Ok(())
            }
        }
    }
}

struct Tree {
    env: Arc<Env>,
    clock: Arc<HandClock>,
    root: ActorRef<SupervisorMsg>,
    task: ractor::concurrency::JoinHandle<()>,
    log: mpsc::UnboundedReceiver<String>,
    _dir: tempfile::TempDir,
}

fn spec(name: &'static str, log: mpsc::UnboundedSender<String>, loads: bool) -> ChildSpec {
    ChildSpec {
        id: name,
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let child = Child { name, log: log.clone(), loaded: loads.then_some(loaded) };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, child, (), supervisor).await?;
                drop(actor.cast(ChildMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| drop(cell.send_message(ChildMsg::Stop))),
        crash: Arc::new(|cell| drop(cell.send_message(ChildMsg::Fail))),
    }
}

impl Tree {
    /// Three children, of which at most two may fail within ten seconds.
    async fn start(strategy: Strategy, last_child_loads: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let journals = Arc::new(FileJournals::open(dir.path()).unwrap());
        let env = env(
            clock.clone(),
            journals,
            NotingNetwork { sent: Box::new(|_, _| {}) },
            Arc::new(NoWorkers),
        );
        let (told, log) = mpsc::unbounded_channel();
        let names = [("a", true), ("b", true), ("c", last_child_loads)];
        let spoken = told.clone();
        let words: Loaded = Arc::new(move || spoken.send("last words".into()).unwrap());
        let spec = SupervisorSpec {
            path: "root".into(),
            strategy,
            intensity: 2,
            period: Duration::from_secs(10),
            children: names
                .into_iter()
                .map(|(name, loads)| spec(name, told.clone(), loads))
                .collect(),
            last_words: Some((words, Duration::from_millis(500))),
        };
        let loaded: Loaded = Arc::new(move || told.send("all up".into()).unwrap());
        let supervisor = Supervisor { env: env.clone(), spec, loaded };
        let (root, task) = Actor::spawn(None, supervisor, ()).await.unwrap();
        root.cast(SupervisorMsg::Load).unwrap();
        Self { env, clock, root, task, log, _dir: dir }
    }

    async fn expect(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.log.recv().await.as_deref(), Some(*expected));
        }
    }

    fn crash(&self, child: &str) {
        self.root.cast(SupervisorMsg::Crash(child.into())).unwrap();
    }

    /// Waits until a child runs, so that the next failure finds it in place.
    async fn until_running(&self, path: &str) {
        let runs = || {
            let rows = self.env.board.rows();
            rows.iter().any(|(known, row)| known == path && row.state == ActorState::Running)
        };
        while !runs() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn one_for_one_restarts_the_child_that_failed() {
    let mut tree = Tree::start(Strategy::OneForOne, true).await;
    tree.expect(&["start a", "start b", "start c", "all up"]).await;
    tree.crash("a");
    tree.expect(&["start a"]).await;
    tree.until_running("root/a").await;
    tree.root.cast(SupervisorMsg::Stop).unwrap();
    tree.expect(&["stop c", "stop b", "stop a"]).await;
    tree.task.await.unwrap();
    let rows = tree.env.board.rows();
    let row = |path: &str| rows.iter().find(|(known, _)| known == path).unwrap().1.clone();
    assert_eq!((row("root/a").restarts, row("root/b").restarts), (1, 0));
    assert!(row("root/a").last_failure.unwrap().contains("it failed"));
}

#[tokio::test]
async fn rest_for_one_restarts_what_was_started_after_it_too() {
    let mut tree = Tree::start(Strategy::RestForOne, true).await;
    tree.expect(&["start a", "start b", "start c", "all up"]).await;
    tree.crash("b");
    tree.expect(&["stop c", "start b", "start c"]).await;
    tree.until_running("root/c").await;
    tree.root.cast(SupervisorMsg::Stop).unwrap();
    tree.expect(&["stop c", "stop b", "stop a"]).await;
}

#[tokio::test]
async fn a_child_that_fails_too_often_ends_the_supervisor_after_its_last_words() {
    let mut tree = Tree::start(Strategy::OneForOne, true).await;
    tree.expect(&["start a", "start b", "start c", "all up"]).await;
    for _ in 0..2 {
        tree.crash("b");
        tree.expect(&["start b"]).await;
        tree.until_running("root/b").await;
    }
    tree.crash("b");
    tree.expect(&["last words"]).await;
    // The others stay until the last words were heard.
    tree.clock.advance(Duration::from_millis(500));
    tree.expect(&["stop c", "stop a"]).await;
    tree.task.await.unwrap();
}

#[tokio::test]
async fn failures_that_are_far_apart_do_not_add_up() {
    let mut tree = Tree::start(Strategy::OneForOne, true).await;
    tree.expect(&["start a", "start b", "start c", "all up"]).await;
    for _ in 0..5 {
        tree.crash("b");
        tree.expect(&["start b"]).await;
        tree.until_running("root/b").await;
        tree.clock.advance(Duration::from_secs(6));
    }
}

#[tokio::test]
async fn a_child_that_never_gets_ready_is_killed_and_started_again() {
    let mut tree = Tree::start(Strategy::OneForOne, false).await;
    tree.expect(&["start a", "start b", "start c"]).await;
    // The alarm is set once the start function has returned.
    while !tree.env.board.rows().iter().any(|(path, _)| path == "root/c") {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    tree.clock.advance(START_DEADLINE);
    tree.expect(&["start c"]).await;
}
