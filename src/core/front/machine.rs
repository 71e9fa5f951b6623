//! The machine of the front.

mod reads;
mod writes;

use crate::messages::command::{RosterCommand, TokensCommand};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::read::{PendingRead, Query, ReadAnswer};
use super::write::{Asker, PendingWrites, Written};
use crate::core::consensus::{Op, ProposalAnswer, Role};
use crate::core::control::{self, Change, View};
use crate::core::ctx::{Ctx, Outbox, ReplyTo};
use crate::core::election;
use crate::core::event::EventBody;
use crate::core::gossip;
use crate::core::init::Init;
use crate::core::join::{Admission, Claim};
use crate::core::machine::{Hears, Machine, Service};
use crate::core::machines::Cast;
use crate::core::news::{Applied, Kind, News};
use crate::core::refusal::Refusal;
use crate::core::standing::Standing;
use crate::messages::command::Refused;
use crate::messages::wire::NoteBody;
use crate::messages::wire::{FrontMessage, JoinMessage, Message};
use crate::messages::{Command, Proposal};
use crate::types::journal::DiskState;
use crate::types::limits::{READ_TIMEOUT_MS, REQUESTS_MAX};
use crate::types::metrics;
use crate::types::{MemberId, Mono, PeerId, ProposalId};

/// Proposals of other nodes that this leader has handed to consensus, for telling them no.
const FORWARDED_MAX: usize = 4 * REQUESTS_MAX;

/// What the front is told.
#[derive(Debug)]
pub enum Msg {
    /// Consensus does not hold a proposal any more.
    Answered {
        /// Which.
        id: ProposalId,
        /// What is known.
        answer: ProposalAnswer,
    },
    /// Consensus named an index for a read.
    ReadIndexed {
        /// Which read.
        nonce: u64,
        /// The index.
        index: Option<u64>,
    },
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: FrontMessage,
    },
    /// A node wants to join.
    Join {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: JoinMessage,
    },
    /// A machine of this node wants a command decided.
    Propose {
        /// Name of the machine.
        by: &'static str,
        /// Id under which it is decided once.
        id: ProposalId,
        /// The command.
        command: Command,
    },
}

/// What the front is told when the machine of this name wants a command decided.
pub fn proposed(by: &'static str, id: ProposalId, command: Command) -> Cast {
    Msg::Propose { by, id, command }.into()
}

/// Consensus does not hold a proposal any more.
pub fn answered<R>(out: &mut Outbox<R>, id: ProposalId, answer: ProposalAnswer) {
    out.cast(Msg::Answered { id, answer });
}

/// Consensus has named an index for a read, or can't.
pub fn read_indexed<R>(out: &mut Outbox<R>, nonce: u64, index: Option<u64>) {
    out.cast(Msg::ReadIndexed { nonce, index });
}

/// What clients ask.
#[derive(Debug)]
pub enum Request {
    /// Decide a command. A given id makes a repetition harmless.
    Write {
        /// Id under which it is decided once.
        id: Option<ProposalId>,
        /// The command.
        command: Command,
    },
    /// Read.
    Read {
        /// What.
        query: Query,
        /// True if an old answer will do.
        stale_ok: bool,
    },
    /// Ask the leader to hand over.
    Transfer {
        /// To whom.
        to: Option<MemberId>,
    },
    /// How this node stands.
    Status,
}

/// What clients get.
#[derive(Debug)]
pub enum Reply {
    /// To a write.
    Written(Result<Written, Refusal>),
    /// To a read.
    Read(ReadAnswer),
    /// To a transfer: whether the leader was asked.
    Transfer(Result<(), Refusal>),
    /// To a status.
    Status(Box<Status>),
}

/// Whether a node takes writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// True if it would take one now.
    pub writable: bool,
    /// Code of the reason if not.
    pub reason: Option<String>,
    /// Voters that answer, this node included.
    pub reachable: usize,
    /// Voters that a majority needs.
    pub needed: usize,
}

/// How a node stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it takes writes.
    pub mode: Mode,
    /// Newest view.
    pub view: Arc<View>,
    /// Newest role.
    pub role: Role,
    /// For how long this node has not known whether it is current.
    pub age: Duration,
    /// Requests under way.
    pub open: usize,
    /// Writes refused since the start because too few voters answered.
    pub refused: u64,
    /// Members whose clock is wrong, and by how many milliseconds it is ahead.
    pub wrong_clocks: BTreeMap<MemberId, i64>,
}

/// The front of one node.
pub struct Front {
    own_peer: PeerId,
    standing: Standing,
    admission: Admission,
    writes: PendingWrites,
    reads: BTreeMap<u64, PendingRead>,
    /// Reads of other nodes, by the nonce that consensus was asked with.
    foreign_reads: BTreeMap<u64, (PeerId, u64, Mono)>,
    forwarded: BTreeMap<ProposalId, PeerId>,
    forwarded_order: VecDeque<ProposalId>,
    current_at: Mono,
    /// Code of the reason why this node takes no writes, as it was told last.
    read_only: Option<&'static str>,
    refused: u64,
    refused_before: u64,
}

impl Front {
    /// The front of a member that has just started.
    pub fn new(own: MemberId, own_peer: PeerId, now: Mono) -> Self {
        Self {
            own_peer,
            standing: Standing::new(own),
            admission: Admission::new(now),
            writes: PendingWrites::new(),
            reads: BTreeMap::new(),
            foreign_reads: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            forwarded_order: VecDeque::new(),
            current_at: now,
            read_only: None,
            refused: 0,
            refused_before: 0,
        }
    }

    fn leader_peer(&self) -> Option<PeerId> {
        self.standing
            .role
            .leader
            .filter(|leader| *leader != self.standing.own)
            .and_then(|leader| self.standing.view.peer_of(leader))
    }

    fn open(&self) -> usize {
        self.writes.len() + self.reads.len()
    }

    // ---- Refusing --------------------------------------------------------------------------

    /// Why a command can't be let in as things are.
    fn untimely(&self, command: &Command) -> Option<Refusal> {
        let Command::Roster(RosterCommand::Remove { member, lost }) = command else { return None };
        let view = &self.standing.view;
        let rest: Vec<MemberId> =
            self.standing.role.voters.iter().filter(|v| *v != member).copied().collect();
        let (voters, needed) = (rest.len(), rest.len() / 2 + 1);
        let reachable = rest.iter().filter(|v| self.standing.answers(**v)).count();
        let votes = voters < self.standing.role.voters.len() && voters > 0;
        if votes && reachable < needed {
            let member = *member;
            let stays = |v: &&MemberId| view.roster.members.contains_key(*v);
            let answers = |v: &&MemberId| self.standing.answers(**v);
            let staying = rest.iter().filter(stays).count();
            let is_enough = rest.iter().filter(stays).filter(answers).count() > staying / 2;
            // What changes the voters is decided by those that vote now.
            if is_enough && self.standing.minority().is_none() {
                return Some(Refusal::VotersChanging(member));
            }
            return Some(Refusal::NoMajorityLeft { member, reachable, needed, voters });
        }
        // That it is unknown or the last one is said by whoever decides.
        let known = view.roster.members.len() > 1 && view.roster.members.contains_key(member);
        let left = |holder| self.standing.answers(holder);
        let at_risk = || control::check_left(view, *member, left).err();
        (known && !lost).then(at_risk)?.map(Refusal::Refused)
    }

    fn watch_mode(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let read_only = self.standing.disk_refusal().or_else(|| self.standing.minority());
        let read_only = read_only.map(|refusal| refusal.code());
        if read_only != self.read_only {
            self.read_only = read_only;
            let refused = self.refused - self.refused_before;
            self.refused_before = self.refused;
            let reason = read_only.unwrap_or("HEALED").to_owned();
            let read_only = read_only.is_some();
            let note = NoteBody::ReadOnly { read_only, reason: reason.clone(), refused };
            gossip::tell(ctx.out, note);
            ctx.out.event(EventBody::ReadOnly { read_only, reason, refused });
        }
    }

    // ---- Messages --------------------------------------------------------------------------

    fn on_message(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, message: FrontMessage) {
        match message {
            FrontMessage::Propose { id, command } => self.on_propose(ctx, from, id, command),
            FrontMessage::NotProposed { id, .. } => self.not_proposed(ctx, id),
            FrontMessage::Declined { id, reason } => {
                if Some(from) == self.leader_peer() {
                    self.declined(ctx, id, reason);
                }
            }
            FrontMessage::ReadIndex { nonce } => {
                // Consensus may have been too busy to take a question.
                self.foreign_reads.retain(|_, (_, _, until)| *until > ctx.now);
                if self.standing.role.leading && self.foreign_reads.len() < REQUESTS_MAX {
                    let own_nonce = ctx.rng.next_u64();
                    let until = ctx.now + Duration::from_millis(READ_TIMEOUT_MS);
                    self.foreign_reads.insert(own_nonce, (from, nonce, until));
                    ctx.out.submit(Op::ReadIndex { nonce: own_nonce });
                } else {
                    ctx.out
                        .send(from, Message::Front(FrontMessage::ReadReady { nonce, index: None }));
                }
            }
            FrontMessage::ReadReady { nonce, index } => {
                if Some(from) == self.leader_peer() {
                    self.on_read_index(ctx, nonce, index);
                }
            }
            FrontMessage::Transfer { to } => {
                if self.standing.role.leading {
                    election::transfer(ctx.out, to);
                }
            }
        }
    }

    fn on_propose(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        id: ProposalId,
        command: Command,
    ) {
        if !self.standing.role.leading {
            let leader = self.standing.role.leader;
            ctx.out.send(from, Message::Front(FrontMessage::NotProposed { id, leader }));
            return;
        }
        if self.is_declined(ctx, from, id, &command) {
            return;
        }
        // The leader is connected to all voters; whoever has asked may only presume that they answer.
        if self.untimely(&command).is_some() || !self.can_time(&command) {
            let leader = self.standing.role.leader;
            ctx.out.send(from, Message::Front(FrontMessage::NotProposed { id, leader }));
            return;
        }
        // An honest front has checked it; whoever sent this waits for nothing.
        if control::check(&command).and_then(|()| self.check_level(&command)).is_err() {
            ctx.out.count(&metrics::FRONT_BAD_PROPOSALS);
            return;
        }
        if self.forwarded.insert(id, from).is_none() {
            self.forwarded_order.push_back(id);
        }
        if self.forwarded_order.len() > FORWARDED_MAX
            && let Some(oldest) = self.forwarded_order.pop_front()
        {
            self.forwarded.remove(&oldest);
        }
        let proposal = Proposal { id, at: self.stamp(ctx.wall), command };
        ctx.out.submit(Op::Propose { term: self.standing.role.term, proposal });
    }

    fn on_join(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, message: JoinMessage) {
        let JoinMessage::Request { cluster, token, secret, candidate } = message else { return };
        let ours = self.standing.view.cluster.made.as_ref().map(|cluster| cluster.id);
        let invalid = if ours != Some(cluster) {
            Some(Refused::Invalid("the token belongs to another cluster".into()))
        } else if candidate.peer != from {
            Some(Refused::Invalid(
                "the request names another peer id than the connection has".into(),
            ))
        } else {
            None
        };
        let claim = self.admission.claim(ctx, &self.standing, token, &candidate);
        let refused = invalid.or((claim == Claim::Taken).then_some(Refused::DuplicateIdentity));
        if let Some(reason) = refused {
            ctx.out.count(&metrics::FRONT_JOINS_REFUSED);
            ctx.out.send(from, Message::Join(JoinMessage::Refused { reason }));
            return;
        }
        if claim == Claim::Early {
            let reason = "the member with the key of this node answered a moment ago".to_owned();
            ctx.out.send(from, Message::Join(JoinMessage::Retry { reason }));
            return;
        }
        if self.writes.values().any(|pending| pending.asker == Asker::Joiner(from)) {
            return;
        }
        let secret_hash = *blake3::hash(&secret).as_bytes();
        self.begin_write(
            ctx,
            None,
            Asker::Joiner(from),
            Command::Tokens(TokensCommand::Admit { token, secret_hash, candidate }),
        );
    }

    fn on_transfer(&mut self, ctx: &mut Ctx<'_, Reply>, to: Option<MemberId>, reply: ReplyTo) {
        let (reachable, needed, voters) = self.standing.quorum();
        let result = if to.is_some_and(|to| !self.standing.view.roster.members.contains_key(&to)) {
            Err(Refusal::Refused(Refused::NoSuchMember(to.unwrap_or_default())))
        } else if to.is_some_and(|to| !self.standing.role.voters.contains(&to)) {
            Err(Refusal::NoHandover("that member does not vote, and only a voter can lead"))
        } else if voters > 0 && reachable < needed {
            Err(Refusal::Minority { reachable, needed, voters })
        } else if to.is_some() && to == self.standing.role.leader {
            Err(Refusal::NoHandover("that member leads already"))
        } else if to
            .is_some_and(|to| to != self.standing.own && !self.standing.answering.contains(&to))
        {
            Err(Refusal::NoHandover("that member does not answer; `bzzz node list` shows who does"))
        } else if self.standing.role.leading {
            election::transfer(ctx.out, to);
            Ok(())
        } else if let Some(leader) = self.leader_peer() {
            ctx.out.send(leader, Message::Front(FrontMessage::Transfer { to }));
            Ok(())
        } else {
            Err(self.standing.refusal())
        };
        ctx.out.reply(reply, Reply::Transfer(result));
    }

    fn mode(&self, now: Mono) -> Mode {
        let (reachable, needed, _) = self.standing.quorum();
        let writable = self.standing.role.leader.is_some()
            && reachable >= needed
            && self.standing.disk == DiskState::Writable
            && !self.standing.is_behind(now);
        let reason = (!writable).then(|| {
            if self.standing.is_behind(now) {
                Refusal::Behind.code()
            } else {
                self.standing.refusal().code()
            }
            .to_owned()
        });
        Mode { writable, reason, reachable, needed }
    }

    fn on_applied(&mut self, ctx: &mut Ctx<'_, Reply>, changes: &[Change]) {
        self.admission.note_joined(ctx.now, changes);
        for change in changes {
            self.on_decided(ctx, change);
        }
        self.advance_reads(ctx);
    }
}

impl Service for Front {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::new(init.run.member, init.run.peer, init.now))
    }
}

impl Hears<FrontMessage> for Front {
    fn heard(from: PeerId, message: FrontMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Hears<JoinMessage> for Front {
    fn heard(from: PeerId, message: JoinMessage) -> Msg {
        Msg::Join { from, message }
    }
}

impl Machine for Front {
    const NAME: &'static str = "front";
    const NEWS: &'static [Kind] = &[
        Kind::Applied,
        Kind::Role,
        Kind::Answering,
        Kind::Linked,
        Kind::Lease,
        Kind::Disk,
        Kind::Clocks,
    ];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, _ctx: &mut Ctx<'_, Reply>) {}

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        let knew = self.standing.knows_time();
        self.standing.on_news(ctx.now, &news);
        match news {
            News::Applied(Applied { changes, .. }) => self.on_applied(ctx, &changes),
            News::Role(_) => {
                self.watch_mode(ctx);
                self.advance_all(ctx);
                self.advance_reads(ctx);
            }
            News::Lease(Some(_)) => {
                self.current_at = ctx.now;
                self.advance_all(ctx);
            }
            News::Answering(_) | News::Disk(_) => self.watch_mode(ctx),
            News::Linked(members) => {
                self.admission.on_linked(ctx.now, members, &self.standing.view);
            }
            News::Clocks(_) if self.standing.knows_time() && !knew => self.advance_all(ctx),
            _ => {}
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::Answered { id, answer } => self.on_answered(ctx, id, answer),
            Msg::ReadIndexed { nonce, index } => self.on_read_index(ctx, nonce, index),
            Msg::Message { from, message } => {
                if from != self.own_peer && self.standing.view.member_of(from).is_some() {
                    self.on_message(ctx, from, message);
                }
            }
            Msg::Join { from, message } => self.on_join(ctx, from, message),
            Msg::Propose { by, id, command } => {
                self.begin_write(ctx, Some(id), Asker::Machine(by), command);
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, request: Request, reply: ReplyTo) {
        match request {
            Request::Write { id, command } => {
                self.begin_write(ctx, id, Asker::Client(reply), command)
            }
            Request::Read { query, stale_ok } => self.begin_read(ctx, query, stale_ok, reply),
            Request::Transfer { to } => self.on_transfer(ctx, to, reply),
            Request::Status => {
                let status = Status {
                    mode: self.mode(ctx.now),
                    view: self.standing.view.clone(),
                    role: self.standing.role.clone(),
                    age: ctx.now.since(self.current_at),
                    open: self.open(),
                    refused: self.refused,
                    wrong_clocks: self.standing.clocks.wrong.clone(),
                };
                ctx.out.reply(reply, Reply::Status(Box::new(status)));
            }
        }
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.advance_all(ctx);
        self.advance_reads(ctx);
    }
}
