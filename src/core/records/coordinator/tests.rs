//! Single rules of the coordinator, one message at a time. What they give together the simulator shows.

use crate::core::consensus::Role;
use crate::core::control::View;
use crate::core::fixture::Give;
use crate::core::fixture::applied;
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::core::control::Layout;
use crate::core::ctx::{Effect, Outbox, Rng};
use crate::core::gossip;
use crate::core::machines::Cast;
use crate::core::records::fixture::{here, peer};
use crate::core::records::{Content, Envelope, fixture};
use crate::crypto::keyed::KeyedVault;
use crate::types::Wall;

mod clocks;
mod contents;
mod reads;
mod repairs;
mod writes;

/// A coordinator on member 1, and what it asked for last.
struct Bench {
    coordinator: Coordinator,
    rng: Rng,
    now: Mono,
    wall: Wall,
    replies: Vec<Reply>,
    /// What all members are told of.
    told: Vec<Version>,
    /// What it has counted.
    counts: BTreeMap<&'static str, u64>,
    /// When it wants to be woken.
    wake: Option<Mono>,
    /// Commands that it wants in the log.
    /// Questions to replicas, with their ids.
    asked: Vec<(MemberId, u64, RecordsAsk)>,
}

fn view(members: u64, version: u64, current: &[u64], next: Option<&[u64]>) -> Arc<View> {
    let holders = |ids: &[u64]| ids.iter().map(|id| (MemberId(*id), Default::default())).collect();
    let members = fixture::members(1..=members);
    let layout =
        Layout { version, current: holders(current), next: next.map(holders), given_up: [].into() };
    Arc::new(View { roster: members, layout: layout.into(), ..View::default() })
}

/// The clocks were compared, and all of them are right.
fn settled() -> Clocks {
    Clocks { is_settled: true, ..Clocks::default() }
}

impl Bench {
    fn new(members: u64) -> Self {
        let all: Vec<u64> = (1..=members).collect();
        let coordinator = Coordinator::new(MemberId(1), peer(1), Arc::new(KeyedVault(peer(1))));
        let rng = Rng::from_seed([7; 32]);
        let mut bench = Self {
            coordinator,
            rng,
            now: Mono(0),
            wall: Wall(1_000),
            replies: Vec::new(),
            told: Vec::new(),
            counts: BTreeMap::new(),
            wake: None,
            asked: Vec::new(),
        };
        bench.tell(applied(view(members, 3, &all, None), &[]));
        bench.tell(News::Answering((1..=members).map(MemberId).collect()));
        let voters = (1..=members).map(MemberId).collect();
        bench.tell(News::Role(Role {
            term: 4,
            leader: Some(MemberId(2)),
            voters,
            ..Role::default()
        }));
        bench.tell(News::Clocks(settled()));
        bench
    }

    fn call(&mut self, call: impl FnOnce(&mut Coordinator, &mut Ctx<'_, Reply>)) {
        let mut out = Outbox::default();
        let mut ctx = Ctx { now: self.now, wall: self.wall, rng: &mut self.rng, out: &mut out };
        call(&mut self.coordinator, &mut ctx);
        self.wake = out.wake_at;
        for effect in out.effects {
            match effect {
                Effect::Reply(_, reply) => self.replies.push(reply),
                Effect::Cast(Cast::Gossip(gossip::Msg::Published(_, version))) => {
                    self.told.push(version);
                }
                Effect::Cast(Cast::Replica(replica::Msg::Ask { id, ask, .. })) => {
                    self.asked.push((MemberId(1), id, ask));
                }
                Effect::Send(to, Message::Replica(ReplicaMessage::Ask { id, ask, .. })) => {
                    self.asked.push((MemberId(u64::from(to.0[0])), id, ask));
                }
                Effect::Count(metric, by) => *self.counts.entry(metric.name).or_default() += by,
                _ => {}
            }
        }
    }

    fn tell(&mut self, msg: impl Give<Coordinator>) {
        self.call(|coordinator, ctx| msg.give(coordinator, ctx));
    }

    fn request(&mut self, request: Request) {
        self.call(|coordinator, ctx| coordinator.on_request(ctx, request, ReplyTo(1)));
    }

    fn lease(&mut self) {
        let until = self.now + Duration::from_millis(200);
        self.tell(News::Lease(Some(Lease { term: 4, until, committed: 0 })));
    }

    fn publish(&mut self) {
        self.publish_at(here());
    }

    fn publish_at(&mut self, address: DecisionAddress) {
        let content = sealed_at(&address);
        self.request(Request::Publish {
            address,
            kind: DecisionKind::Code,
            request: RequestId([9; 16]),
            body: content.body(),
            content: Content::Sealed(content).encode(),
        });
    }

    /// What was asked since the last call: the replicas, the id, the question.
    fn round(&mut self) -> (Vec<u64>, u64, RecordsAsk) {
        let asked = std::mem::take(&mut self.asked);
        let (_, id, ask) = asked.last().expect("something was asked").clone();
        let members = asked.iter().filter(|(_, other, _)| *other == id).map(|(to, ..)| to.0);
        (members.collect(), id, ask)
    }

    fn answer(&mut self, from: u64, id: u64, answer: RecordsAnswer) {
        self.tell(Msg::Answer { from: MemberId(from), id, answer });
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.call(|coordinator, ctx| coordinator.on_wake(ctx));
    }
}

fn lease_until(bench: &mut Bench, ms: u64, committed: u64) {
    let until = Mono(ms * 1_000);
    bench.tell(News::Lease(Some(Lease { term: 4, until, committed })));
}

/// A content that was published here.
fn sealed(number: u8, request: u8, kind: DecisionKind) -> Envelope {
    let envelope = Envelope {
        plain: [number; 32],
        place: PlaceHash::of(&here(), &RequestId([request; 16]), kind),
        generation: 1,
        roles: vec!["admin".into()],
        signer: peer(2),
        file: Bytes(vec![number]),
        signature: Bytes::default(),
    };
    envelope.sign(&KeyedVault(peer(2)))
}

/// What is published by `Bench::publish`.
fn mine() -> Content {
    Content::Sealed(sealed_at(&here()))
}

fn sealed_at(address: &DecisionAddress) -> Envelope {
    let place = PlaceHash::of(address, &RequestId([9; 16]), DecisionKind::Code);
    Envelope { place, ..sealed(1, 9, DecisionKind::Code) }.sign(&KeyedVault(peer(2)))
}

/// What member 2 published, and its version.
fn theirs(ms: u64) -> (Content, Version) {
    let content = sealed(2, 3, DecisionKind::Code);
    let version = Version { content: content.hash(), body: content.body(), ..version(ms) };
    (Content::Sealed(content), version)
}

fn version(ms: u64) -> Version {
    version_at(&here(), ms)
}

fn version_at(address: &DecisionAddress, ms: u64) -> Version {
    let stamp = (Hlc { ms, counter: 0 }, MemberId(3));
    let (request, body) = (RequestId([3; 16]), BodyHash([3; 32]));
    Version::new(stamp, address, request, DecisionKind::Code, body)
}
