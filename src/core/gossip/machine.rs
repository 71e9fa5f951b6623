//! The machine that tells and hears notes, and judges each that comes: taken and passed on, or rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::checks::{Allowance, REASON_MAX, check_event, is_early, is_sound, is_stale};
use super::reconcile::{Partner, RECONCILE_INTERVAL};
use super::streams::Streams;
use crate::core::cluster_time::Clocks;
use crate::core::control::{self, View};
use crate::core::ctx::{Ctx, Effect, Outbox, ReplyTo};
use crate::core::event::{EventBody, JsonText};
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Kind, News};
use crate::core::peers;
use crate::crypto::{Signature, Vault};
use crate::messages::wire::{GossipMessage, Message, Note, NoteBody, Part, SignedNote, StreamId};
pub use crate::messages::{GossipId, Topic, Verdict};
use crate::types::codec::{decode_durable, decode_wire, encode_durable, encode_wire};
use crate::types::limits::{
    EVENTS_PENDING_MAX, GOSSIP_LEN_MAX, GOSSIP_WINDOW, NOTE_LEN_MAX, NOTES_MAX, PUBLISHED_MAX,
};
use crate::types::metrics;
use crate::types::record::Version;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, MemberId, Mono, PeerId, Wall};

const DOMAIN: &str = "bzzz note v1";
/// Members that a fresh event is handed to directly.
const HANDED_TO: usize = 2;
/// How long the publication of an event waits for one of them to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// Publications that come closer together than this share a note.
const PUBLISHED_INTERVAL: Duration = Duration::from_millis(50);
/// Publications that wait for their note; further ones are found by asking only.
const PUBLISHED_WAITING_MAX: usize = 64 * PUBLISHED_MAX;
/// Numbers are below this, so that none overflows.
const SEQ_MAX: u64 = 1 << 62;
/// Allowances of publishers that are remembered.
const ALLOWANCES_MAX: usize = 8_192;

/// Which event of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The run of the member that published it, see `run_of`.
    pub run: u64,
    /// Counts up within that.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (member, start) = (self.run >> RUN_START_BITS, self.run & RUN_START_MASK);
        write!(f, "{member}-{start}-{}", self.seq)
    }
}

/// Bits of a run that count the starts of one membership.
const RUN_START_BITS: u32 = 32;
const RUN_START_MASK: u64 = (1 << RUN_START_BITS) - 1;

/// The run that begins with this start of this member. Of one key, later ones are greater: member ids are never
/// given again, while a key whose data directory was lost counts its starts anew as another member.
pub fn run_of(member: MemberId, start: u64) -> u64 {
    member.0 << RUN_START_BITS | start & RUN_START_MASK
}

/// What the gossip is told.
#[derive(Debug)]
pub enum Msg {
    /// A message of the mesh arrived; the network waits for a verdict on it.
    Heard {
        /// Which.
        id: GossipId,
        /// The topic that it came on.
        topic: Topic,
        /// Who passed it on.
        via: PeerId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A message arrived from another member.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: GossipMessage,
    },
    /// Tell everybody.
    Tell(NoteBody),
    /// Tell everybody of a publication that was acknowledged.
    Published(DecisionAddress, Version),
    /// A connection to a member stands: it shall know what this node is.
    Greet(PeerId),
}

/// All members are to be told this.
pub fn tell<R>(out: &mut Outbox<R>, body: NoteBody) {
    out.cast(Msg::Tell(body));
}

/// All members are to be told of this publication, which was acknowledged.
pub fn published<R>(out: &mut Outbox<R>, address: DecisionAddress, version: Version) {
    out.cast(Msg::Published(address, version));
}

/// A connection to this member stands: it is to know what this node is.
pub fn greet<R>(out: &mut Outbox<R>, peer: PeerId) {
    out.cast(Msg::Greet(peer));
}

/// What the gossip is asked.
#[derive(Debug)]
pub enum Request {
    /// Publish an event of an application.
    Publish {
        /// Its name.
        name: String,
        /// JSON.
        data: String,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was published.
    Published {
        /// Which it is.
        id: EventId,
        /// Nodes that are known to have it, this one among them.
        held_by: usize,
        /// True if there is another member that it could have been handed to.
        others: bool,
    },
    /// A part of it is not allowed.
    Invalid {
        /// Which.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// This node has published as many as it may; try again shortly.
    Busy,
    /// No majority of the clocks agrees: nobody knows what time it is.
    Untimed {
        /// By how many seconds this node's clock is ahead of most of the others'.
        ahead_s: i64,
    },
}

/// Why something is no note of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It says what none may say, or does not read as a note of this version.
    Unsound,
    /// Whoever it names has not signed it.
    Forged,
}

/// Reads a note and its signature; neither was checked.
fn read(signed: &SignedNote) -> Result<(Note, &Signature), Fault> {
    let signature: &Signature =
        signed.signature.0.as_slice().try_into().map_err(|_| Fault::Forged)?;
    if signed.note.0.len() > NOTE_LEN_MAX {
        return Err(Fault::Unsound);
    }
    let note = decode_durable::<Note>(&signed.note.0).map_err(|_| Fault::Unsound)?;
    Ok((note, signature))
}

/// Publications of an event that wait for a confirmation.
struct Pending {
    reply: ReplyTo,
    until: Mono,
}

/// The gossip of one node.
pub struct Gossip {
    pub(super) own: MemberId,
    pub(super) peer: PeerId,
    run: u64,
    vault: Arc<dyn Vault>,
    /// The last number on each topic.
    seqs: BTreeMap<Topic, u64>,
    /// Numbers of this machine are above this.
    first: u64,
    pub(super) members: BTreeMap<PeerId, MemberId>,
    /// Those that are connected, members or not yet known as such.
    linked: BTreeSet<MemberId>,
    pub(super) answering: BTreeMap<MemberId, PeerId>,
    pub(super) streams: Streams,
    allowances: BTreeMap<(PeerId, Topic), Allowance>,
    pub(super) partners: BTreeMap<PeerId, Partner>,
    /// When the next member is compared with; none while there is nothing to compare.
    pub(super) reconcile_at: Option<Mono>,
    announcement: Option<SignedNote>,
    published: Vec<(DecisionAddress, Version)>,
    publish_at: Mono,
    pending: BTreeMap<u64, Pending>,
    clocks: Clocks,
}

impl Gossip {
    /// The gossip of a node that has just started.
    pub fn new(own: MemberId, peer: PeerId, run: u64, vault: Arc<dyn Vault>) -> Self {
        Self {
            own,
            peer,
            run,
            vault,
            seqs: BTreeMap::new(),
            first: 0,
            members: BTreeMap::new(),
            linked: BTreeSet::new(),
            answering: BTreeMap::new(),
            streams: Streams::default(),
            allowances: BTreeMap::new(),
            partners: BTreeMap::new(),
            reconcile_at: None,
            announcement: None,
            published: Vec::new(),
            publish_at: Mono(0),
            pending: BTreeMap::new(),
            clocks: Clocks::default(),
        }
    }

    fn on_view(&mut self, ctx: &mut Ctx<'_, Reply>, view: &View) {
        self.members =
            view.roster.members.values().map(|member| (member.peer, member.id)).collect();
        let (own, members) = (self.peer, &self.members);
        // A member that has just joined may hear of its own joining last; nobody else keeps what it has told until then.
        self.streams.retain(|peer| peer == own || members.contains_key(&peer));
        self.allowances.retain(|(peer, _), _| members.contains_key(peer));
        self.partners.retain(|peer, _| members.contains_key(peer));
        self.note_answering(ctx);
    }

    /// Whoever has come back may have missed something, or have what this node has missed.
    fn note_answering(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let peers = self.members.iter().filter(|(peer, _)| **peer != self.peer);
        let peers = peers.map(|(peer, member)| (*member, *peer));
        let now: BTreeMap<_, _> =
            peers.filter(|(member, _)| self.linked.contains(member)).collect();
        let before = std::mem::replace(&mut self.answering, now);
        let back = self.answering.iter().filter(|(member, _)| !before.contains_key(member));
        for peer in back.map(|(_, peer)| *peer).collect::<Vec<_>>() {
            self.compare_with(ctx, peer);
        }
    }

    // ---- Telling ---------------------------------------------------------------------------

    /// Makes a note, and hands it to the mesh.
    fn tell(&mut self, ctx: &mut Ctx<'_, Reply>, body: NoteBody) -> Option<(u64, SignedNote)> {
        let topic = body.topic();
        // Each topic counts for itself, so that what a member lacks of one shows as a gap.
        let last = self.seqs.entry(topic).or_insert(self.first);
        *last += 1;
        let seq = *last;
        let note = Note { publisher: self.peer, run: self.run, seq, at: ctx.wall, body };
        let note = encode_durable(&note);
        let signature = Bytes(self.vault.sign(DOMAIN, &note).to_vec());
        let signed = SignedNote { note: Bytes(note), signature };
        if signed.note.0.len() > NOTE_LEN_MAX {
            ctx.out.count(&metrics::GOSSIP_TOO_LONG);
            return None;
        }
        let stream = StreamId { topic, publisher: self.peer, run: self.run };
        self.streams.take(ctx.now, stream, (seq, ctx.wall), &signed);
        let bytes = encode_wire(&signed).expect("a bounded note fits in a frame");
        ctx.out.effects.push(Effect::Gossip(topic, bytes));
        self.tend_reconciling(ctx);
        Some((seq, signed))
    }

    fn on_tell(&mut self, ctx: &mut Ctx<'_, Reply>, mut body: NoteBody) {
        if let NoteBody::ActorRestarted { reason, .. } = &mut body {
            reason.truncate(reason.floor_char_boundary(REASON_MAX));
        }
        let is_announcement = matches!(body, NoteBody::Announcement(_));
        if let Some((_, signed)) = self.tell(ctx, body)
            && is_announcement
        {
            self.announcement = Some(signed);
        }
    }

    fn greet(&self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        if let Some(note) = &self.announcement {
            let message = GossipMessage::Notes { notes: vec![note.clone()], rest: None };
            ctx.out.send(peer, Message::Gossip(message));
        }
    }

    fn on_published(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        address: DecisionAddress,
        version: Version,
    ) {
        // Everybody would reject the note, and think ill of this node.
        if version.writer != self.own || self.published.len() == PUBLISHED_WAITING_MAX {
            return ctx.out.count(&metrics::GOSSIP_PUBLICATIONS_LEFT_OUT);
        }
        self.published.push((address, version));
        if self.publish_at <= ctx.now {
            self.tell_published(ctx);
        } else {
            ctx.out.wake_at(self.publish_at);
        }
    }

    fn tell_published(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.publish_at = ctx.now + PUBLISHED_INTERVAL;
        let published = std::mem::take(&mut self.published);
        for some in published.chunks(PUBLISHED_MAX) {
            self.tell(ctx, NoteBody::Published(some.to_vec()));
        }
    }

    fn publish(&mut self, ctx: &mut Ctx<'_, Reply>, name: String, data: String, reply: ReplyTo) {
        if let Err((field, reason)) = check_event(&name, &data) {
            return ctx.out.reply(reply, Reply::Invalid { field, reason });
        }
        if self.pending.len() >= EVENTS_PENDING_MAX
            || !self.allow(ctx.now, self.peer, Topic::Events)
        {
            return ctx.out.reply(reply, Reply::Busy);
        }
        // Where too few are reached to compare clocks, as in a minority, this node's own has to do: if that is wrong, the
        // others drop the event, and none of them confirms it.
        if let Some(split_ms) = self.clocks.split_ms {
            return ctx.out.reply(reply, Reply::Untimed { ahead_s: split_ms / 1_000 });
        }
        let body = NoteBody::Event { name, data };
        let Some((seq, note)) = self.tell(ctx, body.clone()) else {
            return ctx.out.reply(reply, Reply::Busy);
        };
        self.hand_on(ctx, self.own, (self.peer, self.run, seq), ctx.wall, body);
        let to = self.some_that_answer(ctx, HANDED_TO);
        if to.is_empty() {
            return self.confirm(ctx, reply, seq, 1);
        }
        for peer in to {
            let message = GossipMessage::Hand { note: note.clone() };
            ctx.out.send(peer, Message::Gossip(message));
        }
        let until = ctx.now + CONFIRM_TIMEOUT;
        self.pending.insert(seq, Pending { reply, until });
        ctx.out.wake_at(until);
    }

    fn confirm(&self, ctx: &mut Ctx<'_, Reply>, reply: ReplyTo, seq: u64, held_by: usize) {
        let id = EventId { run: self.run, seq };
        let others = self.members.len() > 1;
        ctx.out.reply(reply, Reply::Published { id, held_by, others });
    }

    /// Some of the members that answer, drawn by chance.
    pub(super) fn some_that_answer(&self, ctx: &mut Ctx<'_, Reply>, count: usize) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = self.answering.values().copied().collect();
        let mut some = Vec::new();
        while some.len() < count && !peers.is_empty() {
            some.push(peers.swap_remove(ctx.rng.below(peers.len() as u64) as usize));
        }
        some
    }

    // ---- Hearing ---------------------------------------------------------------------------

    fn allow(&mut self, now: Mono, publisher: PeerId, topic: Topic) -> bool {
        let known = self.allowances.contains_key(&(publisher, topic));
        if !known && self.allowances.len() >= ALLOWANCES_MAX {
            return false;
        }
        // Others get twice what they keep to themselves: their clocks differ, and what was delayed comes
        // at once.
        let share = if publisher == self.peer { 1 } else { 2 };
        let full = || Allowance::full(now, share);
        self.allowances.entry((publisher, topic)).or_insert_with(full).take(now)
    }

    /// Judges a message of the mesh.
    fn on_heard(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        topic: Topic,
        via: PeerId,
        bytes: &[u8],
    ) -> Verdict {
        if bytes.len() > GOSSIP_LEN_MAX {
            return Verdict::Reject;
        }
        match decode_wire::<SignedNote>(bytes) {
            // Another spelling of the same note would be another message to the mesh.
            Ok(signed) if encode_wire(&signed).is_ok_and(|own| own == bytes) => {
                self.judge(ctx, &signed, Some((topic, via))).unwrap_or(Verdict::Reject)
            }
            Ok(_) | Err(_) => Verdict::Reject,
        }
    }

    /// Judges a note, and hands it on if it is new and good. `mesh` is the topic that it came on, and who
    /// passed it on, if it came through the mesh.
    fn judge(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        signed: &SignedNote,
        mesh: Option<(Topic, PeerId)>,
    ) -> Result<Verdict, Fault> {
        let (note, signature) = read(signed)?;
        let Note { publisher, run, seq, at, body } = note;
        if mesh.is_some_and(|(topic, _)| topic != body.topic()) || seq >= SEQ_MAX {
            return Err(Fault::Unsound);
        }
        let Some(member) = self.publisher(publisher, run) else {
            ctx.out.count(&metrics::GOSSIP_OF_STRANGERS);
            return Ok(Verdict::Ignore);
        };
        let stream = StreamId { topic: body.topic(), publisher, run };
        if is_stale(at, ctx.wall) {
            ctx.out.count(&metrics::GOSSIP_STALE);
            return Ok(Verdict::Ignore);
        }
        // The mesh passes on nothing without a verdict. What came beside it first is accepted when it comes
        // through it, once; everything else is known there.
        let is_known = self.streams.has(stream, seq);
        if is_known && !(mesh.is_some() && self.streams.is_beside(stream, seq)) {
            return Ok(Verdict::Ignore);
        }
        // First of all who says it: what others say in its name must not count against it.
        if !self.vault.verify(publisher, DOMAIN, &signed.note.0, signature) {
            return Err(Fault::Forged);
        }
        if !is_sound(&body, member) {
            return Err(Fault::Unsound);
        }
        if is_known {
            self.streams.set_beside(stream, seq, false);
            return Ok(Verdict::Accept);
        }
        // Members differ in when they hear what, and in what they have heard; so none is to blame for
        // having passed on what is too much here, or too early.
        if !self.allow(ctx.now, publisher, stream.topic) {
            ctx.out.count(&metrics::GOSSIP_OVER_THE_RATE);
            let wrote_it = mesh.is_some_and(|(_, via)| via == publisher);
            return Ok(if wrote_it { Verdict::Excess } else { Verdict::Ignore });
        }
        if is_early(&body, ctx.wall) {
            ctx.out.count(&metrics::GOSSIP_STALE);
            return Ok(Verdict::Ignore);
        }
        if !self.streams.take(ctx.now, stream, (seq, at), signed) {
            return Ok(Verdict::Ignore);
        }
        self.streams.set_beside(stream, seq, mesh.is_none());
        // Its own notes come back to a machine that was restarted; they were told then.
        if publisher != self.peer || run != self.run && stream.topic == Topic::Events {
            self.hand_on(ctx, member, (publisher, run, seq), at, body);
        }
        self.tend_reconciling(ctx);
        Ok(Verdict::Accept)
    }

    /// The member that publishes as this run; none if this node knows of none that may.
    fn publisher(&self, publisher: PeerId, run: u64) -> Option<MemberId> {
        // It may have joined, and this node may not know yet.
        let member = self.members.get(&publisher).copied()?;
        // A run is one of the publisher itself: with another member's, its notes would pass for those of that one.
        let owner = MemberId(run >> RUN_START_BITS);
        let is_anothers = self.members.values().any(|other| *other == owner && *other != member);
        (!is_anothers).then_some(member)
    }

    /// Tells whoever it is for.
    fn hand_on(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        member: MemberId,
        (publisher, run, seq): (PeerId, u64, u64),
        at: Wall,
        body: NoteBody,
    ) {
        let mut tell = |body| ctx.out.effects.push(Effect::Tell { member, at, body });
        match body {
            NoteBody::ReadOnly { read_only, reason, refused } => {
                tell(EventBody::ReadOnly { read_only, reason, refused });
            }
            NoteBody::ActorRestarted { actor, reason } => {
                tell(EventBody::ActorRestarted { actor, reason });
            }
            NoteBody::Published(published) => {
                for (address, version) in published {
                    tell(EventBody::published(address, &version));
                }
            }
            NoteBody::Event { name, data } => {
                let id = EventId { run, seq }.to_string();
                let data = JsonText(data.into());
                tell(EventBody::Application { id, name, data });
            }
            NoteBody::Announcement(announcement) => {
                peers::announced(ctx.out, publisher, (run, seq), announcement);
            }
            NoteBody::Leads { term } => {
                control::leads(ctx.out, term, member);
            }
        }
    }

    fn on_message(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, message: GossipMessage) {
        if !self.members.contains_key(&from) || !self.has_patience(ctx.now, from, &message) {
            return ctx.out.count(&metrics::GOSSIP_REFUSED);
        }
        match message {
            GossipMessage::Notes { notes, rest } => self.on_notes(ctx, from, &notes, rest),
            GossipMessage::Hand { note } => {
                // Whoever has it already confirms as well: the first answer may have got lost.
                if self.judge(ctx, &note, None).is_err() {
                    ctx.out.count(&metrics::GOSSIP_REJECTED);
                } else if let Ok(Note { publisher, run, seq, body, .. }) =
                    decode_durable(&note.note.0)
                {
                    let stream = StreamId { topic: body.topic(), publisher, run };
                    if self.streams.has(stream, seq) {
                        let taken = GossipMessage::Taken { stream, seq };
                        ctx.out.send(from, Message::Gossip(taken));
                    }
                }
            }
            GossipMessage::Taken { stream, seq } => {
                if stream.publisher == self.peer
                    && stream.run == self.run
                    && let Some(pending) = self.pending.remove(&seq)
                {
                    self.confirm(ctx, pending.reply, seq, 2);
                }
            }
            GossipMessage::Digest { part, streams, answer } => {
                self.on_digest(ctx, from, part, &streams, answer);
            }
        }
    }

    /// Another member sends a page of notes, and there may be more of that part.
    fn on_notes(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        notes: &[SignedNote],
        rest: Option<Part>,
    ) {
        let mut news = false;
        for note in notes.iter().take(NOTES_MAX) {
            match self.judge(ctx, note, None) {
                Ok(verdict) => news |= verdict == Verdict::Accept,
                // A member of another version may hold this for a note.
                Err(Fault::Unsound) => ctx.out.count(&metrics::GOSSIP_REJECTED),
                Err(Fault::Forged) => {
                    // No member keeps what is not signed. The others would cost a check each.
                    return ctx.out.count(&metrics::GOSSIP_REJECTED);
                }
            }
        }
        // A page that brought nothing would come again.
        if let Some(part) = rest.filter(|_| news) {
            self.ask_for_more(ctx, from, part);
        }
    }

    fn give_up_waiting(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let over = |pending: &Pending| pending.until <= ctx.now;
        let late: Vec<u64> =
            self.pending.iter().filter(|(_, p)| over(p)).map(|(seq, _)| *seq).collect();
        for seq in late {
            if let Some(pending) = self.pending.remove(&seq) {
                self.confirm(ctx, pending.reply, seq, 1);
            }
        }
        if let Some(next) = self.pending.values().map(|pending| pending.until).min() {
            ctx.out.wake_at(next);
        }
    }
}

impl Service for Gossip {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        let run = run_of(init.run.member, init.run.boot_counter);
        Ok(Self::new(init.run.member, init.run.peer, run, init.vault.clone()))
    }
}

impl Hears<GossipMessage> for Gossip {
    fn heard(from: PeerId, message: GossipMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Gossip {
    const NAME: &'static str = "gossip";
    const NEWS: &'static [Kind] = &[Kind::View, Kind::Linked, Kind::Clocks];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        // A machine that was restarted within a run must not use numbers again.
        self.first =
            u64::try_from(ctx.now.since(Mono(0)).as_micros()).unwrap_or(0).min(SEQ_MAX / 2);
        peers::gossip_started(ctx.out);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        match news {
            News::View(view) => self.on_view(ctx, &view),
            News::Linked(linked) => {
                self.linked = linked;
                self.note_answering(ctx);
            }
            News::Clocks(clocks) => self.clocks = clocks,
            _ => {}
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::Heard { id, topic, via, bytes } => {
                let verdict = self.on_heard(ctx, topic, via, &bytes);
                if verdict == Verdict::Reject {
                    ctx.out.count(&metrics::GOSSIP_REJECTED);
                }
                ctx.out.effects.push(Effect::Judge(id, verdict));
            }
            Msg::Message { from, message } => self.on_message(ctx, from, message),
            Msg::Tell(body) => self.on_tell(ctx, body),
            Msg::Published(address, version) => self.on_published(ctx, address, version),
            Msg::Greet(peer) => self.greet(ctx, peer),
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, request: Request, reply: ReplyTo) {
        let Request::Publish { name, data } = request;
        self.publish(ctx, name, data, reply);
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.published.is_empty() {
            if self.publish_at <= ctx.now {
                self.tell_published(ctx);
            } else {
                ctx.out.wake_at(self.publish_at);
            }
        }
        self.give_up_waiting(ctx);
        if let Some(at) = self.reconcile_at {
            if at <= ctx.now {
                self.reconcile(ctx);
            } else {
                ctx.out.wake_at(at);
            }
        }
    }
}

const _: () = assert!(RECONCILE_INTERVAL.as_secs() < GOSSIP_WINDOW.as_secs() / 10);
