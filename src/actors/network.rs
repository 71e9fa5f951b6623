//! Takes what arrives from peers, decodes it, and hands it to the machine that it is for.
//!
//! Invariants:
//! 1. Nothing is handed on that did not decode completely within the bounds of its lane.
//! 2. The sender is whom the connection authenticated.
//! 3. A receiver with a full mailbox gets nothing more; what is dropped is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::actors::Env;
use crate::core::consensus::Op;
use crate::core::ctx::Halt;
use crate::core::join::Joiner;
use crate::core::machine::Hears as _;
use crate::core::{gossip, join, peers};
use crate::messages::wire::Message;
use crate::messages::{Lane, Verdict};
use crate::ports::{Consensus as _, NetworkEvent};
use crate::types::PeerId;
use crate::types::limits::INTAKE_BYTES_MAX;
use crate::types::metrics::{self, Family};

/// What the dispatcher is told.
pub enum DispatchMsg {
    /// Begin to listen.
    Load,
    /// Something happened on the network.
    Event(NetworkEvent),
    /// Fail, as if something had gone wrong.
    Crash,
    /// Stop in order.
    Stop,
}

/// What has arrived and was not handed on yet. A mailbox has no bound of its own, and a peer may send faster than one
/// actor decodes.
#[derive(Default)]
pub struct Intake {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Intake {
    /// What an event takes up beside its bytes.
    const EACH: usize = 128;

    fn size(event: &NetworkEvent) -> usize {
        match event {
            NetworkEvent::Frame { bytes, .. } | NetworkEvent::Gossip { bytes, .. } => {
                bytes.len() + Self::EACH
            }
            // They are told once for a connection or a dial.
            _ => 0,
        }
    }

    /// False for an event that there is no room for. Whoever sent it asks again.
    fn take(&self, size: usize) -> bool {
        let fits = |waiting: usize| {
            waiting.checked_add(size).filter(|sum| size == 0 || *sum <= INTAKE_BYTES_MAX)
        };
        let taken = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn hand_on(&self, size: usize) {
        self.waiting.fetch_sub(size, Ordering::AcqRel);
    }

    /// Events that were dropped since this was asked last.
    fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Hands on what arrives from peers.
pub struct Dispatcher {
    /// What the node's actors share.
    pub env: Arc<Env>,
    /// Called once it listens.
    pub loaded: Arc<dyn Fn() + Send + Sync>,
    /// What waits in its mailbox.
    pub intake: Arc<Intake>,
}

impl Dispatcher {
    /// Listens, and hands everything to this actor.
    fn attach(&self, myself: ActorRef<DispatchMsg>) {
        let intake = self.intake.clone();
        self.env.ports.network.attach(Arc::new(move |event| {
            let size = Intake::size(&event);
            if intake.take(size) && myself.cast(DispatchMsg::Event(event)).is_err() {
                // After a stop nobody listens any more.
                intake.hand_on(size);
            }
        }));
    }

    fn count(&self, metric: &'static Family) {
        self.env.counters.add(metric, 1);
    }

    fn on_event(&self, event: NetworkEvent) {
        self.intake.hand_on(Intake::size(&event));
        let dropped = self.intake.dropped();
        if dropped > 0 {
            self.env.counters.add(&metrics::FRAMES_DROPPED, dropped);
        }
        let directory = &self.env.directory;
        match event {
            NetworkEvent::Up { peer, dialled } => {
                directory.peers.mail(crate::actors::Mail::Msg(peers::Msg::Up(peer)));
                let _ = directory.join.offer(join::Msg::Up { peer, dialled });
            }
            NetworkEvent::Down { peer } => {
                directory.peers.mail(crate::actors::Mail::Msg(peers::Msg::Down(peer)));
                let _ = directory.join.offer(join::Msg::Down(peer));
            }
            NetworkEvent::TurnedAway { peer, why } => {
                // Said again with the next connection if it is lost here.
                let _ = directory.peers.offer(peers::Msg::TurnedAway(peer, why));
                let _ = directory.join.offer(join::Msg::TurnedAway(peer, why));
            }
            NetworkEvent::DialFailed { address, reason } => {
                let _ = directory.join.offer(join::Msg::DialFailed(address, reason));
            }
            NetworkEvent::Found { peer, address } => {
                // Said again every minute.
                let _ = directory.join.offer(join::Msg::Found(peer, address));
            }
            NetworkEvent::Gossip { id, topic, via, bytes } => {
                if directory.gossip.offer(gossip::Msg::Heard { id, topic, via, bytes }).is_err() {
                    self.count(&metrics::FRAMES_DROPPED);
                    self.env.ports.network.judge(id, Verdict::Ignore);
                }
            }
            NetworkEvent::Frame { from, lane, bytes } => self.on_frame(from, lane, &bytes),
            NetworkEvent::Failed { reason } => (self.env.halt)(Halt::Network(reason)),
        }
    }

    fn on_frame(&self, from: PeerId, lane: Lane, bytes: &[u8]) {
        let message = match self.env.speech.decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = %from, %error, "a frame does not decode");
                return self.count(&metrics::FRAMES_MALFORMED);
            }
        };
        let is_join = matches!(message, Message::Join(_));
        if is_join != (lane == Lane::Join) {
            return self.count(&metrics::FRAMES_ON_THE_WRONG_LANE);
        }
        let taken = match message {
            Message::Consensus(message) => {
                self.env.consensus.submit(Op::Inbound { from, message }).is_ok()
            }
            Message::Join(message) if self.env.member.is_none() => {
                self.env.directory.join.offer(Joiner::heard(from, message)).is_ok()
            }
            message => self.env.directory.hear(from, message),
        };
        if !taken {
            self.count(&metrics::FRAMES_DROPPED);
        }
    }
}

impl Actor for Dispatcher {
    type Msg = DispatchMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<DispatchMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<DispatchMsg>,
        message: DispatchMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatchMsg::Load => {
                self.attach(myself);
                (self.loaded)();
            }
            DispatchMsg::Event(event) => self.on_event(event),
            DispatchMsg::Crash => return Err("stopped by fault injection".into()),
            DispatchMsg::Stop => myself.stop(None),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let intake = Intake::default();
        let size = INTAKE_BYTES_MAX / 4;
        assert_eq!((0..9).filter(|_| intake.take(size)).count(), 4);
        assert!(intake.take(0), "that a connection is gone is always told");
        assert!(!intake.take(usize::MAX));
        assert_eq!((intake.dropped(), intake.dropped()), (6, 0));
        intake.hand_on(size);
        assert!(intake.take(size) && !intake.take(1));
    }
}
