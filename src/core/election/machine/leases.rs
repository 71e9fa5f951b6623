//! The part of the election that holds, renews, grants and passes on leases (`core::election::lease`), and takes messages, most
//! of which are about them.

use std::time::Duration;

use super::{Election, Reply};
use crate::core::ctx::Ctx;
use crate::core::election::lease::{HELD_FOR, LEASE, Lease};
use crate::core::news::News;
use crate::core::overlay::Overlay;
use crate::messages::wire::{ElectionMessage, Grant, Message};
use crate::types::fault::{Fault, planted};
use crate::types::{Mono, PeerId};

/// How long an unanswered question for a lease waits before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(40);
/// How often, and for how long, a lease is asked for that no write wants.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);
/// How long a lease is held for those that this node passes it on to, after they have asked.
const PASSED_ON_FOR: Duration = Duration::from_millis(500);
/// Questions to the source in a row that may bring nothing before the leader is asked, and for how long it is.
const SOURCE_TRIED: u32 = 4;
const SOURCE_LEFT_FOR: Duration = Duration::from_secs(10);

impl Election {
    /// Works out whom to ask, after members or voters have changed.
    pub(super) fn find_source(&mut self) {
        let keys =
            self.view.roster.members.values().map(|member| (member.id, member.peer)).collect();
        let overlay = Overlay::new(self.settings.shape, &keys, &self.role.voters);
        self.is_large = !overlay.is_full();
        let source = overlay.source(self.own).filter(|_| self.is_large);
        self.source = source.and_then(|source| keys.get(&source).copied());
    }

    /// Whom to ask for a lease: the source, or the leader if that brings nothing.
    fn grantor_peer(&mut self, now: Mono) -> Option<PeerId> {
        let leader = self.leader_peer()?;
        let Some(source) = self.source.filter(|_| self.direct_until <= now) else {
            return Some(leader);
        };
        self.in_vain += 1;
        if self.in_vain <= SOURCE_TRIED {
            return Some(source);
        }
        (self.in_vain, self.direct_until) = (0, now + SOURCE_LEFT_FOR);
        Some(leader)
    }

    /// What this node can grant: as the leader, or by passing on what it holds.
    fn grant(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId) -> Option<Grant> {
        if self.role.leading {
            let grant = self.grantor.grant(ctx.now, self.role.term, false)?;
            self.grantor.note(from, ctx.now);
            return Some(grant);
        }
        if !self.is_large {
            return None;
        }
        // Held for as long as those below ask.
        self.wanted_until = self.wanted_until.max(ctx.now + PASSED_ON_FOR);
        self.tend_lease(ctx);
        let grant = self.holder.pass_on(ctx.now, self.role.term)?;
        // The clock of whoever gets it may be slower than this one.
        self.passed_until = ctx.now + HELD_FOR;
        Some(grant)
    }

    pub(super) fn tell_lease(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let lease = self.holder.lease(ctx.now);
        if lease != self.told {
            self.told = lease;
            ctx.out.tell(News::Lease(lease));
        }
    }

    /// Renews the lease when writes want one and half of it is gone.
    pub(super) fn tend_lease(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.wanted_until <= ctx.now {
            return;
        }
        if self.role.leading {
            self.hold_own(ctx);
            return;
        }
        let renew_at = self.holder.lease(ctx.now).map(|lease| lease.until - LEASE / 2);
        let ask_at = match (renew_at, self.holder.asked_at()) {
            (Some(renew), Some(asked)) => renew.max(asked + ASK_AGAIN),
            // What the source passes on may be as short as what there is.
            (Some(renew), None) => renew.max(self.asked_at + ASK_AGAIN / 4),
            (None, Some(asked)) => asked + ASK_AGAIN,
            (None, None) => ctx.now,
        };
        if ask_at <= ctx.now
            && let Some(grantor) = self.grantor_peer(ctx.now)
        {
            let nonce = ctx.rng.next_u64();
            self.holder.ask(nonce, ctx.now, grantor);
            self.asked_at = ctx.now;
            ctx.out.send(grantor, Message::Election(ElectionMessage::LeaseAsk { nonce }));
            ctx.out.wake_at(ctx.now + ASK_AGAIN);
        } else {
            ctx.out.wake_at(ask_at.max(ctx.now + Duration::from_millis(1)));
        }
    }

    /// Holds a lease for a moment now and then, so that a node that nobody writes through still knows
    /// whether it is current.
    pub(super) fn look_around(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.look_at <= ctx.now {
            self.look_at = ctx.now + LOOK_INTERVAL;
            self.wanted_until = self.wanted_until.max(ctx.now + LOOK);
            self.tend_lease(ctx);
        }
    }

    /// The leader's lease on itself ends where everybody else's would.
    fn hold_own(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let grant = self.grantor.grant(ctx.now, self.role.term, self.sole_voter());
        if let Some(grant) = grant {
            let until = ctx.now + Duration::from_micros(grant.remaining_us);
            self.holder.hold(Lease { term: grant.term, until, committed: grant.committed });
            // A leader whose majority is slow has less than half left: it looks again soon, not at once.
            let renew_at = until - LEASE / 2;
            ctx.out.wake_at(renew_at.max(ctx.now + ASK_AGAIN / 4));
        }
        self.tell_lease(ctx);
    }

    pub(super) fn on_message(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        message: ElectionMessage,
    ) {
        match message {
            ElectionMessage::LeaseAsk { nonce } => {
                let answer = match self.grant(ctx, from) {
                    Some(grant) => ElectionMessage::LeaseGranted { nonce, grant },
                    None => ElectionMessage::LeaseDenied { nonce, leader: self.role.leader },
                };
                ctx.out.send(from, Message::Election(answer));
            }
            ElectionMessage::LeaseGranted { nonce, grant } => {
                let asked = (from, nonce);
                if self.holder.on_granted(ctx.now, asked, &grant, self.role.term).is_some() {
                    self.in_vain = 0;
                    self.tell_lease(ctx);
                    self.tend_lease(ctx);
                }
            }
            ElectionMessage::LeaseDenied { nonce, .. } => {
                if self.holder.on_denied(from, nonce) {
                    ctx.out.wake_at(ctx.now + ASK_AGAIN / 4);
                }
            }
            ElectionMessage::LeaseRevoke { term } => {
                if Some(from) == self.leader_peer() || term >= self.role.term {
                    self.holder.drop_through(term);
                    self.tell_lease(ctx);
                }
                // Those that it was passed on to are not told: the leader waits until theirs has run out, too.
                if self.passed_until <= ctx.now || planted(Fault::RevokedAtOnce) {
                    let revoked = ElectionMessage::LeaseRevoked { term };
                    ctx.out.send(from, Message::Election(revoked));
                }
            }
            ElectionMessage::LeaseRevoked { term } => {
                if term == self.role.term {
                    self.grantor.on_revoked(from);
                    self.tend_handover(ctx);
                }
            }
            ElectionMessage::Report(report) => self.on_report(ctx, from, report),
            ElectionMessage::Table { scores, duties } => {
                self.on_table(ctx, from, scores, duties);
            }
        }
    }
}
