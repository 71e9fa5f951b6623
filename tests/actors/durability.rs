//! Writes through one actor: a thousand share few fsyncs, none is answered before its own, and one
//! that an earlier incarnation began is no news to the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bzzz::actors::{Driver, Env, Mail};
use bzzz::adapters::FileJournals;
use bzzz::core::join::Roster;
use bzzz::core::overlay::Shape;
use bzzz::core::peers::{self, Identity, Peers};
use bzzz::messages::wire::{Announcement, Hello, Message, PeersMessage};
use bzzz::ports::journal::{Completion, Journal, Journals, Opened};
use bzzz::types::host::Capabilities;
use bzzz::types::journal::{DiskState, JournalError};
use bzzz::types::{BootId, ClusterId, Level, MemberId, PeerId, Wall};
use ractor::Actor;
use tokio::sync::mpsc;

use crate::work::NoWorkers;
use crate::world::{HandClock, NotingNetwork, env};

const WRITES: usize = 1_000;

/// The real journals, with a count of the writes that are on disk.
struct Counting {
    real: FileJournals,
    durable: Arc<AtomicUsize>,
}

struct CountingJournal {
    real: Arc<dyn Journal>,
    durable: Arc<AtomicUsize>,
}

impl CountingJournal {
    fn counted(&self, done: Completion) -> Completion {
        let durable = self.durable.clone();
        Box::new(move |result: Result<(), JournalError>| {
            durable.fetch_add(1, Ordering::SeqCst);
            done(result);
        })
    }
}

impl Journal for CountingJournal {
    fn append(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.real.append(records, self.counted(done));
    }

    fn rewrite(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.real.rewrite(records, self.counted(done));
    }

    fn len_bytes(&self) -> u64 {
        self.real.len_bytes()
    }
}

impl Journals for Counting {
    fn open(&self, name: &'static str) -> Result<Opened, JournalError> {
        let (real, records) = self.real.open(name)?;
        Ok((Arc::new(CountingJournal { real, durable: self.durable.clone() }), records))
    }

    fn disk(&self) -> DiskState {
        self.real.disk()
    }
}

const OTHER: PeerId = PeerId([9; 32]);

fn peers() -> Peers {
    let others = [(MemberId(2), (OTHER, Vec::new()))];
    let identity = Identity {
        cluster: ClusterId([1; 16]),
        member: MemberId(1),
        peer: PeerId([0; 32]),
        boot_counter: 1,
        boot: BootId(1),
        seen: BTreeMap::new(),
        roster: Roster { members: others.into(), voted: false },
    };
    let own = Announcement {
        node_id: "one".into(),
        capabilities: Capabilities::default(),
        ip_address: "127.0.0.1".into(),
        p2p_port: 1,
        services: BTreeMap::new(),
        joined_at: Wall(0),
        links: BTreeMap::new(),
    };
    Peers::new(identity, own, Shape::default())
}

#[tokio::test]
async fn a_thousand_writes_share_fsyncs_and_none_is_answered_before_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let durable = Arc::new(AtomicUsize::new(0));
    let real = FileJournals::open(dir.path()).unwrap();
    let journals = Arc::new(Counting { real, durable: durable.clone() });
    // How many writes were on disk whenever a hello was answered.
    let (welcomed, mut welcomes) = mpsc::unbounded_channel();
    let network = NotingNetwork {
        sent: Box::new(move |_, bytes| {
            if let Ok(Message::Peers(PeersMessage::Welcome { .. })) =
                Message::decode(bytes, Level::NEWEST)
            {
                welcomed.send(durable.load(Ordering::SeqCst)).unwrap();
            }
        }),
    };
    let env: Arc<Env> =
        env(Arc::new(HandClock::default()), journals.clone(), network, Arc::new(NoWorkers));
    let driver = Driver::new(env.clone(), Arc::new(|_| Ok(peers())), Arc::new(|| {}));
    let (actor, task) = Actor::spawn(None, driver, ()).await.unwrap();

    // Each of these names a higher start than the one before, which is written down.
    for number in 1..=WRITES {
        let hello = Hello {
            cluster: ClusterId([1; 16]),
            member: MemberId(2),
            boot_counter: number as u64,
            boot: BootId(2),
        };
        let message = PeersMessage::Hello(hello);
        env.directory.peers.mail(Mail::Msg(peers::Msg::Message { from: OTHER, message }));
    }
    for number in 1..=WRITES {
        let on_disk = welcomes.recv().await.unwrap();
        assert!(on_disk >= number, "answer {number} left when {on_disk} writes were on disk");
    }
    let fsyncs = journals.real.stats("store").unwrap().fsyncs.load(Ordering::Relaxed);
    assert!(fsyncs < 100, "{fsyncs} fsyncs for {WRITES} writes");
    actor.cast(Mail::Stop).unwrap();
    task.await.unwrap();
}

/// Journals that complete a write when the test says so.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<Completion>>>);

impl Journal for Held {
    fn append(&self, _: Vec<Vec<u8>>, done: Completion) {
        self.0.lock().unwrap().push(done);
    }

    fn rewrite(&self, _: Vec<Vec<u8>>, done: Completion) {
        self.0.lock().unwrap().push(done);
    }

    fn len_bytes(&self) -> u64 {
        0
    }
}

impl Journals for Held {
    fn open(&self, _: &'static str) -> Result<Opened, JournalError> {
        Ok((Arc::new(self.clone()), Vec::new()))
    }

    fn disk(&self) -> DiskState {
        DiskState::Writable
    }
}

impl Held {
    /// Waits for the next write and takes it out.
    async fn next(&self) -> Completion {
        loop {
            if let Some(done) = self.0.lock().unwrap().pop() {
                return done;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_write_of_an_earlier_incarnation_releases_nothing() {
    let journals = Held::default();
    let (told, mut welcomes) = mpsc::unbounded_channel();
    let network = NotingNetwork {
        sent: Box::new(move |_, bytes| {
            if let Ok(Message::Peers(PeersMessage::Welcome { boot })) =
                Message::decode(bytes, Level::NEWEST)
            {
                told.send(boot).unwrap();
            }
        }),
    };
    let env = env(
        Arc::new(HandClock::default()),
        Arc::new(journals.clone()),
        network,
        Arc::new(NoWorkers),
    );
    let mut earlier = None;
    for boot in [BootId(2), BootId(3)] {
        let factory = Arc::new(|_: &Env| Ok(peers()));
        let driver = Driver::new(env.clone(), factory, Arc::new(|| {}));
        let (actor, task) = Actor::spawn(None, driver, ()).await.unwrap();
        let hello =
            Hello { cluster: ClusterId([1; 16]), member: MemberId(2), boot_counter: 1, boot };
        let message = PeersMessage::Hello(hello);
        env.directory.peers.mail(Mail::Msg(peers::Msg::Message { from: OTHER, message }));
        let write = journals.next().await;
        let Some(earlier) = earlier.take() else {
            earlier = Some(write);
            actor.kill();
            task.await.unwrap();
            continue;
        };
        // What the first one had begun gets to disk; the write of the second one has not.
        earlier(Ok(()));
        let status = env.directory.peers.ask(peers::Request::Status);
        let (answered, _) = tokio::join!(status, async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(welcomes.try_recv().is_err(), "it was answered before its write was on disk");
            write(Ok(()));
        });
        assert_eq!(welcomes.recv().await, Some(boot));
        drop(answered);
        return actor.stop(None);
    }
}

/// Requests of the API come as soon as an actor that is restarted has its address.
#[tokio::test]
async fn what_is_asked_before_anything_else_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let journals = FileJournals::open(dir.path()).unwrap();
    let network = NotingNetwork { sent: Box::new(|_, _| ()) };
    let env: Arc<Env> =
        env(Arc::new(HandClock::default()), Arc::new(journals), network, Arc::new(NoWorkers));
    let factory = Arc::new(|_: &Env| Ok(peers()));
    let driver = Driver::new(env.clone(), factory, Arc::new(|| {}));
    let (actor, task) = Actor::spawn(None, driver, ()).await.unwrap();
    let asked = env.directory.peers.ask(peers::Request::Status);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await;
    assert!(answer.expect("nobody else has to tell it to load").is_ok());
    actor.stop(None);
    task.await.unwrap();
}
