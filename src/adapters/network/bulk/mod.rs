//! Connections for bulk bytes, see `ports::bulk`, on a thread of their own beside the event loop and its
//! runtime.
//!
//! Problem: a gigabyte must not delay a heartbeat. So what carries it shares with the lanes neither a
//! connection, nor a window, nor a queue, nor a thread: what is left is the processor, of which this
//! thread takes less where others want it, the link, and short locks of tables.
//!
//! Flow of a stream that this node opens: it gets a place (`streams`) -> `reactor` finds or dials a
//! connection, which the other end has let in at its door (`doors`) -> a stream is opened on it
//! (`connection`) -> both ends say which run they are of, and the other end what it thinks of it (`wire`)
//! -> the halves go to the user (`halves`).
//!
//! Invariants:
//! 1. The runtime of the lanes carries no bulk bytes, and this one no frames.
//! 2. Streams are with members only, and with the run that the lanes lead to, if they lead to one.
//! 3. Every callback is called, also when the thread is gone.

mod connection;
pub(super) mod doors;
mod halves;
mod pipe;
mod reactor;
mod streams;
mod wire;

use std::io;
use std::sync::{Arc, Mutex};

use libp2p::StreamProtocol;
use libp2p::identity::Keypair;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::NetworkError;
use super::bounds::{BULK_ARRIVALS_MAX, BULK_NICE, GOODBYE};
use super::driver::Command;
use super::stats::count;
use super::table::Shared;
use crate::ports::Sink;
use crate::ports::bulk::{
    Answer, Bulk, BulkError, BulkId, BulkStream, Incoming, Once, Refusal, Then,
};
use crate::types::limits::BULK_ANSWER;
use crate::types::{Address, Lock, PeerId};
use connection::Opened;
use doors::{Arrived, Doorway};
use halves::{explain, halves};
use reactor::{Event, Reactor, Want};
use streams::{Held, Streams};
use wire::{read_answer, read_greeting, write_answer, write_greeting};

/// What all tasks of the thread share.
struct Bulks {
    shared: Arc<Shared>,
    streams: Arc<Streams>,
    local: PeerId,
    /// The run of this process.
    run: u64,
    sink: Mutex<Option<Sink<Incoming>>>,
    events: mpsc::UnboundedSender<Event>,
    runtime: Handle,
}

/// The bulk bytes of one node. Dropping it ends them.
pub(super) struct BulkNet(Arc<Bulks>);

/// A thread that has not begun.
pub(super) struct Prepared {
    name: StreamProtocol,
    shared: Arc<Shared>,
    arrivals: mpsc::Receiver<Arrived>,
}

impl Prepared {
    /// Makes what the swarm hands connections to.
    pub(super) fn new(cluster_tag: &str, shared: Arc<Shared>) -> (Self, Doorway) {
        let (arrived, arrivals) = mpsc::channel(BULK_ARRIVALS_MAX);
        let name = doors::name(cluster_tag);
        let doorway = Doorway::new(name.clone(), shared.clone(), arrived);
        (Self { name, shared, arrivals }, doorway)
    }

    /// Begins.
    pub(super) fn start(
        self,
        (local, run): (PeerId, u64),
        keypair: &Keypair,
        routes: mpsc::WeakUnboundedSender<Command>,
    ) -> Result<BulkNet, NetworkError> {
        let Self { name, shared, arrivals } = self;
        let dialling = doors::dialling(keypair, name, shared.sockets.clone())?;
        let (made, is_made) = std::sync::mpsc::channel();
        let work = move || {
            // Made here, because here it may also be dropped.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                // Whoever starts this waits for it.
                Err(error) => return drop(made.send(Err(error))),
            };
            let (sent, events) = mpsc::unbounded_channel();
            let bulks = Arc::new(Bulks {
                streams: Arc::new(Streams::new(shared.stats.clone())),
                shared,
                local,
                run,
                sink: Mutex::default(),
                events: sent,
                runtime: runtime.handle().clone(),
            });
            let reactor = Reactor::new(local, bulks.clone(), dialling, routes);
            if made.send(Ok(bulks)).is_ok() {
                if let Err(error) = setpriority_process(Some(gettid()), BULK_NICE) {
                    // It works without; it only may take more of the processor than it should.
                    tracing::debug!(%error, "the thread for bulk bytes is as urgent as the others");
                }
                runtime.block_on(reactor.run(arrivals, events));
            }
            // Tasks that are dropped with it call back whoever waits for them.
            drop(runtime);
        };
        let thread = std::thread::Builder::new().name("bulk".to_owned());
        thread.spawn(work).map_err(NetworkError::Thread)?;
        let made = is_made.recv().unwrap_or_else(|ended| Err(io::Error::other(ended)));
        made.map(BulkNet).map_err(NetworkError::Thread)
    }
}

impl BulkNet {
    /// The roster has changed.
    pub(super) fn on_admitted(&self) {
        let shared = &self.0.shared;
        self.0.streams.end_with(|peer| !shared.is_admitted(peer), &BulkError::NotAMember);
        self.0.tell(Event::Admitted);
    }

    /// Ends all streams and closes all connections; returns when that is done, or cannot be.
    pub(super) async fn stop(&self) {
        self.0.stop();
        let (done, waiting) = oneshot::channel();
        self.0.tell(Event::Stop(Some(done)));
        // An error says that the thread had ended before, or is held up by whoever it has called back.
        let _ = timeout(2 * GOODBYE, waiting).await;
    }

    /// The same without waiting for it.
    pub(super) fn stop_soon(&self) {
        self.0.stop();
        self.0.tell(Event::Stop(None));
    }
}

impl Drop for BulkNet {
    fn drop(&mut self) {
        self.stop_soon();
    }
}

impl Bulk for BulkNet {
    fn serve(&self, sink: Sink<Incoming>) {
        let earlier = self.0.sink.locked().replace(sink);
        // Not under the lock: it may hold what calls this port when it goes.
        drop(earlier);
    }

    fn open(
        &self,
        to: PeerId,
        at: Vec<Address>,
        header: Vec<u8>,
        then: Then<BulkStream>,
    ) -> BulkId {
        let (id, then) = (self.0.streams.number(), Once::new(then));
        let begun = BulkError::check_header(&header).and_then(|()| {
            if to == self.0.local {
                return Err(BulkError::NoWay { reason: "it is this node itself".to_owned() });
            }
            let held = self.0.streams.begin(id, to, true)?;
            // After it has begun, so that whoever is removed now ends it.
            if self.0.shared.is_admitted(to) { Ok(held) } else { Err(BulkError::NotAMember) }
        });
        match begun {
            Ok(held) => {
                // If the thread is gone, the task is dropped, and the callback hears of it.
                self.0.runtime.spawn(self.0.clone().open(held, at, header, then));
            }
            Err(why) => {
                if why == BulkError::Busy {
                    count(&self.0.shared.stats.bulk.refused);
                }
                then.give(Err(why));
            }
        }
        id
    }

    fn cancel(&self, stream: BulkId) {
        self.0.streams.end(stream, &BulkError::Cancelled);
    }
}

impl Bulks {
    /// Tells the reactor. The channel has no bound because whoever sends has a place, or a connection.
    fn tell(&self, event: Event) {
        // A reactor that is gone has ended everything.
        let _ = self.events.send(event);
    }

    fn sink(&self) -> Option<Sink<Incoming>> {
        self.sink.locked().clone()
    }

    /// Ends all streams, and lets go of whoever serves, who may hold this port.
    fn stop(&self) {
        self.streams.stop();
        let sink = self.sink.locked().take();
        drop(sink);
    }

    async fn open(
        self: Arc<Self>,
        held: Held,
        at: Vec<Address>,
        header: Vec<u8>,
        then: Once<BulkStream>,
    ) {
        let opened = tokio::select! {
            biased;
            why = held.ended() => Err(why),
            opened = self.reach(held.peer, at, &header) => opened,
        };
        let with = (self.shared.stats.clone(), self.runtime.clone());
        then.give(opened.map(|opened| halves(opened, held, with, None)));
    }

    /// A stream that the peer has taken.
    async fn reach(
        &self,
        peer: PeerId,
        at: Vec<Address>,
        header: &[u8],
    ) -> Result<Opened, BulkError> {
        let mut is_again = false;
        loop {
            let (give, taken) = oneshot::channel();
            self.tell(Event::Want(Want { to: peer, at: at.clone(), give }));
            let given = taken.await.unwrap_or(Err(BulkError::Stopped));
            let answered = match given {
                Ok(mut opened) => match self.greet(peer, &mut opened, header).await {
                    Ok(()) => Ok(opened),
                    Err(why) => Err(why),
                },
                Err(why) => Err(why),
            };
            match answered {
                // The connection may have been about to close, as seen from the other end.
                Err(BulkError::Broken { .. }) if !is_again => is_again = true,
                answered => return answered,
            }
        }
    }

    async fn greet(
        &self,
        peer: PeerId,
        opened: &mut Opened,
        header: &[u8],
    ) -> Result<(), BulkError> {
        let greeting = async {
            write_greeting(&mut opened.io, self.run, header).await?;
            read_answer(&mut opened.io).await
        };
        match timeout(BULK_ANSWER, greeting).await {
            Err(_) => {
                // Nobody may be at its other end any more: the next one goes another way.
                opened.live.leave();
                Err(BulkError::Stalled)
            }
            Ok(Err(error)) => Err(explain(&error)),
            Ok(Ok((Some(refusal), _))) => Err(BulkError::Refused(refusal)),
            Ok(Ok((None, run))) if !self.is_run_of(peer, run) => {
                Err(BulkError::Refused(Refusal::OtherRun))
            }
            Ok(Ok((None, _))) => Ok(()),
        }
    }

    /// False if the lanes lead to another run of the peer.
    fn is_run_of(&self, peer: PeerId, run: u64) -> bool {
        self.shared.run_of(peer).is_none_or(|known| known == run)
    }

    /// A peer opens a stream.
    fn accept(self: &Arc<Self>, peer: PeerId, opened: Opened) {
        let begun = self.streams.begin(self.streams.number(), peer, false);
        let bulks = self.clone();
        match begun {
            Ok(held) => drop(self.runtime.spawn(bulks.take(opened, held))),
            Err(_) => {
                count(&self.shared.stats.bulk.refused);
                self.runtime.spawn(async move { bulks.refuse(opened, Refusal::Busy).await });
            }
        }
    }

    async fn take(self: Arc<Self>, mut opened: Opened, held: Held) {
        let greeting = tokio::select! {
            biased;
            why = held.ended() => Err(why),
            read = timeout(BULK_ANSWER, read_greeting(&mut opened.io)) => match read {
                Ok(read) => read.map_err(|error| explain(&error)),
                Err(_) => Err(BulkError::Stalled),
            },
        };
        let peer = held.peer;
        let (run, header) = match greeting {
            Ok(greeting) => greeting,
            Err(why) => {
                tracing::debug!(%peer, %why, "a stream of bulk bytes did not begin");
                return;
            }
        };
        let sink = if !self.shared.is_admitted(peer) {
            Err(Refusal::NotAMember)
        } else if !self.is_run_of(peer, run) {
            Err(Refusal::OtherRun)
        } else {
            self.sink().ok_or(Refusal::Unserved)
        };
        match sink {
            Ok(sink) => {
                let waiting = Waiting { bulks: self, opened, held };
                sink(Incoming::new(peer, header, Box::new(waiting)));
            }
            Err(why) => {
                count(&self.shared.stats.bulk.refused);
                self.refuse(opened, why).await;
            }
        }
    }

    async fn refuse(&self, mut opened: Opened, why: Refusal) {
        let answer = write_answer(&mut opened.io, Some(why), self.run);
        // Who does not take the answer sees the stream end.
        let _: Result<io::Result<()>, _> = timeout(BULK_ANSWER, answer).await;
    }
}

/// A stream that waits for an answer of whoever serves.
struct Waiting {
    bulks: Arc<Bulks>,
    opened: Opened,
    held: Held,
}

impl Answer for Waiting {
    fn accept(self: Box<Self>) -> BulkStream {
        let Self { bulks, opened, held } = *self;
        let with = (bulks.shared.stats.clone(), bulks.runtime.clone());
        halves(opened, held, with, Some(bulks.run))
    }

    fn refuse(self: Box<Self>, why: Refusal) {
        let Self { bulks, opened, held } = *self;
        let runtime = bulks.runtime.clone();
        runtime.spawn(async move {
            bulks.refuse(opened, why).await;
            drop(held);
        });
    }
}
