//! The smallest world that actors can run in: a clock that is moved by hand, and a network that
//! only notes what it is given.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bzzz::actors::env::EnvSinks;
use bzzz::actors::{Env, EventLog, Store};
use bzzz::crypto::Signature;
use bzzz::ports::network::{GossipId, SendError, Topic, Verdict};
use bzzz::ports::records::{OpenedRecords, RecordStores, StoreFault};
use bzzz::ports::{
    Clock, Entropy, Host, Journals, Lane, Network, NetworkEvent, Ports, Sink, Vault, Workers,
};
use bzzz::types::host::{Capabilities, Load};
use bzzz::types::journal::DiskState;
use bzzz::types::{Address, Level, MemberId, Mono, PeerId, Wall};

type Heard = Box<dyn Fn(PeerId, &[u8]) + Send + Sync>;
type Alarm = (Mono, Box<dyn FnOnce() + Send>);

/// Time that passes when a test says so.
#[derive(Default)]
pub struct HandClock {
    now_us: AtomicU64,
    alarms: Mutex<Vec<Alarm>>,
}

impl HandClock {
    /// Lets time pass, and rings what is due.
    pub fn advance(&self, by: Duration) {
        let now = self.now_us.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
        let now = Mono(now + by.as_micros() as u64);
        let due: Vec<Alarm> = {
            let mut alarms = self.alarms.lock().unwrap();
            let (due, rest) = alarms.drain(..).partition(|(at, _)| *at <= now);
            *alarms = rest;
            due
        };
        for (_, ring) in due {
            ring();
        }
    }
}

impl Clock for HandClock {
    fn now(&self) -> Mono {
        Mono(self.now_us.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Wall {
        Wall(self.now_us.load(Ordering::SeqCst) / 1_000)
    }

    fn alarm(&self, after: Duration, then: Box<dyn FnOnce() + Send>) {
        let at = self.now() + after;
        self.alarms.lock().unwrap().push((at, then));
    }
}

/// Takes frames and tells somebody.
pub struct NotingNetwork {
    /// Hears each frame.
    pub sent: Heard,
}

impl Network for NotingNetwork {
    fn gossip(&self, _: Topic, _: Vec<u8>) -> Result<(), SendError> {
        Ok(())
    }

    fn judge(&self, _: GossipId, _: Verdict) {}

    fn attach(&self, _sink: Sink<NetworkEvent>) {}

    fn local_peer(&self) -> PeerId {
        PeerId([0; 32])
    }

    fn listen_addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn dial(&self, _address: Address) {}

    fn keep(&self, _peer: PeerId, _addresses: Vec<Address>) {}

    fn release(&self, _peer: PeerId) {}

    fn admit(&self, _roster: BTreeSet<PeerId>) {}

    fn send(&self, to: PeerId, _lane: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        (self.sent)(to, &bytes);
        Ok(())
    }
}

struct Fixed;

impl Entropy for Fixed {
    fn seed(&self) -> [u8; 32] {
        [7; 32]
    }
}

impl Host for Fixed {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

impl RecordStores for Fixed {
    fn open(&self) -> Result<OpenedRecords, StoreFault> {
        Err(StoreFault::Busy)
    }

    fn disk(&self) -> DiskState {
        DiskState::Writable
    }
}

impl Vault for Fixed {
    fn sign(&self, _domain: &'static str, _bytes: &[u8]) -> Signature {
        [0; 64]
    }

    fn verify(&self, _: PeerId, _: &'static str, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// What the actors of one node share, in this world.
pub fn env(
    clock: Arc<HandClock>,
    journals: Arc<dyn Journals>,
    network: NotingNetwork,
    workers: Arc<dyn Workers>,
) -> Arc<Env> {
    let store = Arc::new(Store::open(journals.as_ref()).unwrap());
    let own = bzzz::adapters::age::generate();
    let network: Arc<dyn Network> = Arc::new(network);
    let ports = Ports {
        bulk: Arc::new(bzzz::ports::NoBulk),
        keyring: Arc::new(bzzz::adapters::AgeKeyring::new(own).expect("a thread")),
        cache: Arc::new(bzzz::ports::NoCache),
        clock,
        entropy: Arc::new(Fixed),
        host: Arc::new(Fixed),
        journals,
        meter: Arc::new(bzzz::ports::NoMeter),
        network,
        records: Arc::new(Fixed),
        vault: Arc::new(Fixed),
        workers,
    };
    let halt = Arc::new(|why| panic!("the node would stop: {why}"));
    let sinks = EnvSinks { halt, unsent: Arc::new(|_| {}) };
    Arc::new(Env::new(ports, store, Some(MemberId(1)), sinks, EventLog::default(), Level::NEWEST))
}
