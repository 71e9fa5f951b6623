//! One of every message, and their golden bytes.

use super::*;
use crate::messages::Proposal;
use crate::messages::Topic;
use crate::messages::command::{Candidate, Command, Refused};
use crate::messages::command::{
    ClusterCommand, EvaluationCommand, HeadsCommand, LayoutCommand, RosterCommand, TokensCommand,
};
use crate::messages::command::{DutiesCommand, LevelCommand};
use crate::messages::command::{Expect, Holder};
use crate::types::RequestId;
use crate::types::golden;
use crate::types::host::{Capabilities, Load};
use crate::types::record::{DecisionKind, Hlc};
use crate::types::record::{Partition, Record, RecordKey, Version};
use crate::types::role::{Authority, RoleKey};
use crate::types::ucxl::DecisionAddress;
use crate::types::{
    Address, BootId, Bytes, ClusterId, LogId, MemberId, PeerId, ProposalId, TokenId, Wall,
};
use crate::types::{BodyHash, ContentHash, Recipient};

const PEER: PeerId = PeerId([2; 32]);
const MEMBER: MemberId = MemberId(3);
const VOTE: VoteId = VoteId { term: 5, candidate: MEMBER, committed: true };

fn at(index: u64) -> Option<LogId> {
    Some(LogId { term: 5, index })
}

fn address() -> Address {
    "/ip4/10.0.0.1/tcp/4001".parse().expect("an address")
}

fn candidate() -> Candidate {
    Candidate {
        peer: PEER,
        name: "node".into(),
        role: "worker".into(),
        addresses: vec![address()],
        labels: [("rack".to_owned(), "a".to_owned())].into(),
        content_key: Recipient([9; 32]),
        level: Level::FIRST,
    }
}

fn commands() -> Vec<Command> {
    let (token, secret_hash) = (TokenId([6; 8]), [7; 32]);
    let set_head = |expect| {
        Command::Heads(HeadsCommand::Set {
            key: "monitoring/x".into(),
            expect,
            value: Bytes(vec![1, 2]),
            author: "someone".into(),
        })
    };
    let role = RoleKey { authority: Authority::Master, recipient: Recipient([8; 32]) };
    let roles = [("admin".to_owned(), role)].into();
    vec![
        Command::Cluster(ClusterCommand::Found {
            cluster: ClusterId([1; 16]),
            name: "home".into(),
            founder: candidate(),
            roles,
        }),
        Command::Tokens(TokensCommand::Create { token, secret_hash, expires_at: Wall(9), uses: 2 }),
        Command::Tokens(TokensCommand::Revoke { token }),
        Command::Tokens(TokensCommand::Admit { token, secret_hash, candidate: candidate() }),
        Command::Roster(RosterCommand::Remove { member: MEMBER, lost: false }),
        Command::Roster(RosterCommand::Remove { member: MEMBER, lost: true }),
        Command::Roster(RosterCommand::Label {
            member: MEMBER,
            set: [("a".to_owned(), "b".to_owned())].into(),
            unset: vec!["c".into()],
        }),
        Command::Roster(RosterCommand::Moved { member: MEMBER, addresses: vec![address()] }),
        set_head(Expect::Absent),
        set_head(Expect::Version(4)),
        Command::Evaluation(EvaluationCommand::Done),
        RosterCommand::Upgraded { member: MEMBER, level: Level(2) }.into(),
        LevelCommand::Raise { to: Level(2) }.into(),
        DutiesCommand::Pause { duty: "layout".into() }.into(),
        DutiesCommand::Resume { duty: "layout".into() }.into(),
        Command::Layout(LayoutCommand::Next {
            holders: [(MEMBER, Holder { weight: 2, zone: "rack-a".into() })].into(),
        }),
        Command::Layout(LayoutCommand::Commit { version: 7 }),
    ]
}

fn refusals() -> Vec<Refused> {
    vec![
        Refused::AlreadyFounded,
        Refused::TokenUnknown,
        Refused::TokenUsed,
        Refused::TokenExpired,
        Refused::AlreadyMember(MEMBER),
        Refused::NoSuchMember(MEMBER),
        Refused::RecordsAtRisk { member: MEMBER, partitions: 9, moving: true },
        Refused::LastMember,
        Refused::VersionMismatch { current: 4 },
        Refused::Limit { what: "members".into(), limit: 9 },
        Refused::Invalid("no".into()),
        Refused::DuplicateIdentity,
    ]
}

pub(super) fn peers() -> Vec<PeersMessage> {
    let boot = BootId(8);
    let turned = |why| PeersMessage::Turned { boot, why };
    vec![
        PeersMessage::Hello(Hello {
            cluster: ClusterId([1; 16]),
            member: MEMBER,
            boot_counter: 4,
            boot,
        }),
        PeersMessage::Welcome { boot },
        turned(Turned::OtherCluster),
        turned(Turned::NotAMember),
        turned(Turned::DuplicateIdentity),
        turned(Turned::OldCopy { seen: 4, ours: 3 }),
        turned(Turned::LogLost),
        PeersMessage::Ping { nonce: 300 },
        PeersMessage::Pong { nonce: 300, boot, wall: Wall(1_754_842_940_007) },
    ]
}

fn entries() -> Vec<Entry> {
    let config = VoterConfig { configs: vec![vec![MEMBER]], nodes: [(MEMBER, PEER)].into() };
    let proposal =
        |command| Payload::Proposal(Proposal { id: ProposalId([4; 16]), at: Wall(9), command });
    let proposals = commands().into_iter().map(proposal);
    [Payload::Blank, Payload::Membership(config)]
        .into_iter()
        .chain(proposals)
        .zip(1..)
        .map(|(payload, index)| Entry { id: LogId { term: 5, index }, payload })
        .collect()
}

pub(super) fn consensus() -> Vec<ConsensusMessage> {
    let snapshot =
        |part| Rpc::Snapshot { vote: VOTE, last: at(9), total: 10, offset: 2, part: Bytes(part) };
    let rpcs = vec![
        Rpc::Append { vote: VOTE, prev: at(0), entries: entries(), commit: None, age_ms: 40 },
        Rpc::Vote { vote: VOTE, last: at(9), transfer: true },
        Rpc::PreVote { vote: VOTE, last: None },
        snapshot(vec![1, 2]),
        Rpc::Transfer { vote: VOTE, to: MEMBER, last: at(9) },
        Rpc::Follow { after: at(9), offset: 7, probe: true },
    ];
    let follow = |body| RpcReply::Follow {
        term: 5,
        leader: Some(MEMBER),
        voters: vec![MEMBER],
        voters_at: at(2),
        fed: true,
        age_ms: 40,
        upto: at(4),
        body,
    };
    let part = Bytes(vec![1]);
    let replies = vec![
        RpcReply::Append(AppendReply::Success),
        RpcReply::Append(AppendReply::Partial(at(9))),
        RpcReply::Append(AppendReply::Conflict),
        RpcReply::Append(AppendReply::HigherVote(VOTE)),
        RpcReply::Vote { vote: VOTE, granted: true, last: at(9) },
        RpcReply::Snapshot { vote: VOTE },
        RpcReply::Transfer { accepted: true },
        RpcReply::Unavailable,
        follow(FollowBody::Entries(vec![])),
        follow(FollowBody::Snapshot { last: at(9), total: 10, offset: 2, part }),
    ];
    let request = |rpc| ConsensusMessage::Request { correlation: 70_000, rpc };
    let response = |reply| ConsensusMessage::Response { correlation: 70_000, reply };
    rpcs.into_iter().map(request).chain(replies.into_iter().map(response)).collect()
}

pub(super) fn election() -> Vec<ElectionMessage> {
    let link = LinkReport { rtt_us: 250, up_s: 60, availability_permille: 999 };
    let scores =
        Scores { stability: 1, hardware: 2, position: 3, geography: 4, load: 5, overall: 10_000 };
    vec![
        ElectionMessage::LeaseAsk { nonce: 1 },
        ElectionMessage::LeaseGranted {
            nonce: 1,
            grant: Grant { term: 5, committed: 9, remaining_us: 240_000 },
        },
        ElectionMessage::LeaseDenied { nonce: 1, leader: Some(MEMBER) },
        ElectionMessage::LeaseRevoke { term: 5 },
        ElectionMessage::LeaseRevoked { term: 5 },
        ElectionMessage::Report(Report {
            load: Load { cpu_permille: 100, memory_permille: 200, disk_free_mb: 300 },
            capabilities: Capabilities { cpu_cores: 8, ..Capabilities::default() },
            links: [(MEMBER, link)].into(),
        }),
        ElectionMessage::Table {
            scores: ScoreTable { term: 5, version: 2, scores: [(MEMBER, scores)].into() },
            duties: DutyTable { term: 5, version: 3, rows: vec![duty()] },
        },
    ]
}

fn duty() -> DutyRow {
    let (what, outcome) = ("member 3 gets a vote".to_owned(), "done".to_owned());
    DutyRow {
        name: "voters".into(),
        last: Some(DutyStep { what, term: 4, at: Wall(8), outcome }),
        plan: "nothing".into(),
        why: "3 vote".into(),
        again_at: Some(Wall(9)),
    }
}

pub(super) fn front() -> Vec<FrontMessage> {
    let id = ProposalId([4; 16]);
    vec![
        FrontMessage::Propose { id, command: Command::Evaluation(EvaluationCommand::Done) },
        FrontMessage::NotProposed { id, leader: Some(MEMBER) },
        FrontMessage::ReadIndex { nonce: 1 },
        FrontMessage::ReadReady { nonce: 1, index: Some(9) },
        FrontMessage::Transfer { to: Some(MEMBER) },
        FrontMessage::Declined { id, reason: Refused::DuplicateIdentity },
    ]
}

pub(super) fn join() -> Vec<JoinMessage> {
    let request = JoinMessage::Request {
        cluster: ClusterId([1; 16]),
        token: TokenId([6; 8]),
        secret: [0; 32],
        candidate: candidate(),
    };
    let accepted = JoinMessage::Accepted {
        member: MEMBER,
        cluster_name: "home".into(),
        roster: [(MEMBER, (PEER, vec![address()]))].into(),
    };
    let retry = JoinMessage::Retry { reason: "not now".into() };
    let refused = refusals().into_iter().map(|reason| JoinMessage::Refused { reason });
    [request, accepted, retry].into_iter().chain(refused).collect()
}

fn version() -> Version {
    Version {
        at: Hlc { ms: 1_754_842_940_007, counter: 3 },
        writer: MEMBER,
        content: ContentHash([4; 32]),
        request: RequestId([5; 16]),
        kind: DecisionKind::Architecture,
        body: BodyHash([6; 32]),
    }
}

fn decision() -> DecisionAddress {
    "a/b/c/d/e".parse().expect("an address")
}

pub(super) fn replica() -> Vec<ReplicaMessage> {
    let (hash, address, version) = (ContentHash([4; 32]), decision(), version());
    let asks = vec![
        RecordsAsk::Put { hash, content: Bytes(vec![1, 2]) },
        RecordsAsk::Add { address: address.clone(), version, settled: false },
        RecordsAsk::Post {
            address: address.clone(),
            version,
            content: Bytes(vec![1, 2]),
            settled: true,
        },
        RecordsAsk::Merge { address: address.clone(), version, content: None },
        RecordsAsk::Content { hash },
        RecordsAsk::Newest { address: address.clone() },
        RecordsAsk::Versions { address: address.clone() },
        RecordsAsk::Find { address: address.clone(), request: version.request },
        RecordsAsk::Scan { prefix: "a/".into(), after: Some(address.clone()), limit: 9 },
    ];
    asks.into_iter().map(|ask| ReplicaMessage::Ask { id: 7, term: 5, layout: 6, ask }).collect()
}

pub(super) fn records() -> Vec<RecordsMessage> {
    let (address, version) = (decision(), version());
    let answers = vec![
        RecordsAnswer::Stored,
        RecordsAnswer::NotGreater(version),
        RecordsAnswer::Repeated(version, Some(Bytes(vec![1, 2]))),
        RecordsAnswer::Full,
        RecordsAnswer::OtherTerm(5),
        RecordsAnswer::OtherLayout(6),
        RecordsAnswer::ClockAhead,
        RecordsAnswer::Unavailable,
        RecordsAnswer::Rejected,
        RecordsAnswer::Content(Some(Bytes(vec![1, 2]))),
        RecordsAnswer::Newest(Some(version)),
        RecordsAnswer::Versions(vec![version]),
        RecordsAnswer::Page(vec![(address, version)], true),
    ];
    let answers = answers.into_iter().map(|answer| RecordsMessage::Answer { id: 7, answer });
    answers.collect()
}

pub(super) fn copy() -> Vec<CopyMessage> {
    let keys = vec![
        RecordKey::Content(ContentHash([4; 32]), 2),
        RecordKey::Version(decision(), version()),
    ];
    let records = vec![
        Record::Content(ContentHash([4; 32]), Bytes(vec![1, 2])),
        Record::Version(decision(), version()),
    ];
    let asks = vec![
        CopyAsk::Digests { root: 8 },
        CopyAsk::Keys { partition: Partition(4_095), after: keys.first().cloned() },
        CopyAsk::Fetch { keys: keys.clone() },
    ];
    let answers = vec![
        CopyAnswer::Same,
        CopyAnswer::Digests(vec![0, u64::MAX]),
        CopyAnswer::Keys(keys, true),
        CopyAnswer::Records(records),
        CopyAnswer::Unavailable,
    ];
    let asks = asks.into_iter().map(|ask| CopyMessage::Ask { id: 7, layout: 6, ask });
    asks.chain(answers.into_iter().map(|answer| CopyMessage::Answer { id: 7, answer })).collect()
}

pub(super) fn gossip() -> Vec<GossipMessage> {
    let stream = StreamId { topic: Topic::Events, publisher: PEER, run: 3 };
    let note = SignedNote { note: Bytes(vec![1]), signature: Bytes(vec![2; 64]) };
    let digest = StreamDigest { stream, floor: 4, ranges: vec![(6, 9)] };
    let ends = [Topic::Announce, Topic::Election, Topic::Admin, Topic::Decisions];
    let ends = ends.map(|topic| GossipMessage::Digest {
        part: Part { from: Some(StreamId { topic, ..stream }), to: None },
        streams: vec![digest.clone()],
        answer: true,
    });
    [
        GossipMessage::Notes { notes: vec![note.clone()], rest: Some(Part::default()) },
        GossipMessage::Hand { note },
        GossipMessage::Taken { stream, seq: 300 },
    ]
    .into_iter()
    .chain(ends)
    .collect()
}

pub(super) fn keys() -> Vec<KeysMessage> {
    vec![KeysMessage::Ask { nonce: 1 }, KeysMessage::Shared { nonce: 1, file: Bytes(vec![1, 2]) }]
}

/// Compares messages with what they were sent as before, and reads them.
pub(super) fn golden(golden: &str, messages: &[Message]) {
    let written: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let bytes = message.encode(Level::NEWEST).expect("it fits in a frame");
            assert_eq!(Message::decode(&bytes, Level::NEWEST).as_ref(), Ok(message));
            bytes
        })
        .collect();
    golden::compare("a message", golden, &written);
}

/// Compares messages with what they were sent as in versions that are still spoken, and reads them as that.
pub(super) fn golden_of_before<C: Component>(messages: &[Message]) {
    let (_, older) = C::VERSIONS.split_last().expect("a component has a version");
    let kept = C::golden_of_before();
    let versions = |pairs: &[(Level, u8)]| pairs.iter().map(|(_, v)| *v).collect::<Vec<u8>>();
    let of_files: Vec<u8> = kept.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions(older), of_files, "{} has no golden bytes of these versions", C::NAME);
    for ((level, version), (_, golden)) in older.iter().zip(kept) {
        // What a version can't say is not sent in it.
        let written = messages.iter().filter_map(|message| message.encode(*level).ok());
        let written: Vec<Vec<u8>> = written.collect();
        for bytes in &written {
            let read = Message::decode(bytes, *level).expect("what was sent can be read");
            assert_eq!(read.encode(*level).as_ref(), Ok(bytes), "it is read as another message");
        }
        golden::compare(&format!("version {version} of {}", C::NAME), golden, &written);
    }
}

/// Fails if a variant of an enum in a source file, formatted as ours are, is not in this text.
pub(super) fn names_every_variant(source: &str, all: &str) {
    let mut within = false;
    for line in source.lines() {
        within = line.starts_with("pub enum ") || within && line != "}";
        let name = line.strip_prefix("    ").filter(|_| within).unwrap_or_default();
        if name.starts_with(|first: char| first.is_ascii_uppercase()) {
            let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            assert!(all.contains(name), "{name} is in no golden message");
        }
    }
}

#[test]
fn every_command_is_in_the_golden_bytes() {
    let all = format!("{:?}", commands());
    for source in [
        include_str!("../command/cluster.rs"),
        include_str!("../command/duties.rs"),
        include_str!("../command/evaluation.rs"),
        include_str!("../command/heads.rs"),
        include_str!("../command/layout.rs"),
        include_str!("../command/level.rs"),
        include_str!("../command/roster.rs"),
        include_str!("../command/tokens.rs"),
    ] {
        names_every_variant(source, &all);
    }
}
