//! Reads on their way: an index from the leader, then the view that has it, or what is here.

use std::time::Duration;

use super::super::read::{PendingRead, Query, ReadAnswer, Staleness};
use super::{Front, Reply};
use crate::core::consensus::Op;
use crate::core::ctx::{Ctx, ReplyTo};
use crate::messages::wire::{FrontMessage, Message};
use crate::types::limits::{PROPOSAL_RETRY_MS, REQUESTS_MAX};

impl Front {
    pub(super) fn begin_read(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        query: Query,
        stale_ok: bool,
        reply: ReplyTo,
    ) {
        let read = PendingRead::new(reply, query, ctx.now);
        if stale_ok || self.open() >= REQUESTS_MAX {
            self.answer_read(ctx, &read, true);
            return;
        }
        let nonce = ctx.rng.next_u64();
        self.reads.insert(nonce, read);
        self.advance_read(ctx, nonce);
    }

    pub(super) fn advance_read(&mut self, ctx: &mut Ctx<'_, Reply>, nonce: u64) {
        let leader = self.leader_peer();
        let Some(read) = self.reads.get_mut(&nonce) else { return };
        let seen = read.index.is_some_and(|index| {
            self.standing.view.applied.is_some() && self.standing.view.index() >= index
        });
        if seen || read.deadline <= ctx.now {
            if let Some(read) = self.reads.remove(&nonce) {
                self.answer_read(ctx, &read, !seen);
            }
            return;
        }
        if read.index.is_none() && read.again_at <= ctx.now {
            read.again_at = ctx.now + Duration::from_millis(PROPOSAL_RETRY_MS);
            if self.standing.role.leading {
                ctx.out.submit(Op::ReadIndex { nonce });
            } else if let Some(leader) = leader {
                ctx.out.send(leader, Message::Front(FrontMessage::ReadIndex { nonce }));
            }
        }
        ctx.out.wake_at(read.again_at.max(ctx.now + Duration::from_millis(1)).min(read.deadline));
    }

    pub(super) fn answer_read(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        read: &PendingRead,
        stale: bool,
    ) {
        if !stale {
            self.current_at = ctx.now;
        }
        let staleness = Staleness {
            stale,
            index: self.standing.view.index(),
            age: ctx.now.since(self.current_at),
        };
        let answer = ReadAnswer { page: read.query.run(&self.standing.view), staleness };
        ctx.out.reply(read.reply, Reply::Read(answer));
    }

    pub(super) fn on_read_index(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        nonce: u64,
        index: Option<u64>,
    ) {
        if let Some((peer, nonce, _)) = self.foreign_reads.remove(&nonce) {
            ctx.out.send(peer, Message::Front(FrontMessage::ReadReady { nonce, index }));
        } else if let Some(read) = self.reads.get_mut(&nonce)
            && index.is_some()
        {
            read.index = index;
            self.advance_read(ctx, nonce);
        }
    }

    pub(super) fn advance_reads(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let nonces: Vec<u64> = self.reads.keys().copied().collect();
        for nonce in nonces {
            self.advance_read(ctx, nonce);
        }
    }
}
