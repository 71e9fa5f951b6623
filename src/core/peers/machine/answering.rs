//! The part of the peers that finds out who answers, and tells the others on this node.

use std::collections::BTreeSet;

use super::{ANNOUNCE_TTL, Peers, Reply};
use crate::core::ctx::Ctx;
use crate::core::event::EventBody;
use crate::core::gossip;
use crate::core::news::News;
use crate::core::peers::link::{Link, PeerStatus};
use crate::messages::wire::{Message, NoteBody, PeersMessage};
use crate::types::limits::LINKS_ANNOUNCED_MAX;
use crate::types::{Address, MemberId, Mono, PeerId};

impl Peers {
    pub(in crate::core::peers) fn announce(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let members = self.members.iter();
        let measured = members.filter_map(|(member, (peer, _))| {
            let link = self.links.get(peer).filter(|link| link.answers() && link.is_measured())?;
            Some((*member, link.report(ctx.now).rtt_us))
        });
        self.own.links = measured.take(LINKS_ANNOUNCED_MAX).collect();
        self.unheard = self.linked.is_empty();
        gossip::tell(ctx.out, NoteBody::Announcement(self.own.clone()));
    }

    pub(in crate::core::peers) fn update_answering(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let answers = |peer: &PeerId| self.links.get(peer).is_some_and(Link::answers);
        let is_there = |(member, (peer, _)): &(&MemberId, &(PeerId, Vec<Address>))| {
            answers(peer) || self.is_presumed(ctx.now, **member, *peer)
        };
        let now: BTreeSet<MemberId> =
            self.members.iter().filter(is_there).map(|(member, _)| *member).collect();
        let linked: BTreeSet<MemberId> = self
            .members
            .iter()
            .filter(|(_, (peer, _))| answers(peer))
            .map(|(member, _)| *member)
            .collect();
        if linked != self.linked {
            self.linked = linked;
            ctx.out.tell(News::Linked(self.linked.clone()));
            if self.unheard {
                // What was announced while nobody was there, nobody has passed on.
                self.announce(ctx);
            }
        }
        if now == self.answering {
            return;
        }
        for member in now.difference(&self.answering) {
            ctx.out.event(EventBody::PeerUp { member: *member });
        }
        for member in self.answering.difference(&now) {
            ctx.out.event(EventBody::PeerDown { member: *member });
        }
        self.answering = now.clone();
        ctx.out.tell(News::Answering(now));
    }

    pub(super) fn ping_all(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let silent = self.links.iter().filter(|(_, link)| !link.welcomed).map(|(peer, _)| *peer);
        for peer in silent.collect::<Vec<_>>() {
            self.say_hello(ctx, peer);
        }
        for (peer, link) in self.links.iter_mut().filter(|(_, link)| link.boot.is_some()) {
            self.pings += 1;
            let nonce = self.pings;
            link.pinged(nonce, ctx.now);
            ctx.out.send(*peer, Message::Peers(PeersMessage::Ping { nonce }));
        }
    }

    pub(super) fn suspect(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let mut changed = false;
        for link in self.links.values_mut().filter(|link| !link.suspected) {
            if let Some(deadline) = link.detector.as_ref().map(|detector| detector.deadline()) {
                if deadline <= ctx.now {
                    link.suspected = true;
                    changed = true;
                } else {
                    ctx.out.wake_at(deadline);
                }
            }
        }
        if changed {
            self.update_answering(ctx);
        }
    }

    pub(super) fn report(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let links = self
            .members
            .iter()
            .filter_map(|(member, (peer, _))| {
                let link =
                    self.links.get(peer).filter(|link| link.answers() && link.is_measured())?;
                Some((*member, link.report(ctx.now)))
            })
            .collect();
        ctx.out.tell(News::Links(links));
        self.compare_clocks(ctx);
        self.presume_again(ctx);
        self.greet_unknown(ctx);
        self.announced.retain(|_, announced| announced.until > ctx.now);
    }

    pub(super) fn status(&self, now: Mono) -> Vec<PeerStatus> {
        self.members
            .iter()
            .map(|(member, (peer, _))| {
                let link = self.links.get(peer);
                let own = *peer == self.id.peer;
                let announced = self.announced.get(peer).map(|announced| {
                    let left = announced.until.since(now).as_secs();
                    (announced.announcement.clone(), u32::try_from(left).unwrap_or(u32::MAX))
                });
                PeerStatus {
                    member: *member,
                    peer: *peer,
                    answers: own || link.is_some_and(Link::answers),
                    presumed: !own && self.is_presumed(now, *member, *peer),
                    link: link.filter(|link| link.boot.is_some()).map(|link| link.report(now)),
                    announcement: if own {
                        Some((self.own.clone(), ANNOUNCE_TTL.as_secs() as u32))
                    } else {
                        announced
                    },
                }
            })
            .collect()
    }
}
