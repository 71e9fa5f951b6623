//! `/api/v1/nodes`: the members, and what can be done to them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::ToSchema;

use crate::core::consensus::Role;
use crate::core::control::Member;
use crate::core::peers::{self, PeerStatus};
use crate::core::refusal::Refusal;
use crate::http::answer::{Answer, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::codes;
use crate::http::params::{MEMBER_ID, member_id};
use crate::http::problem::ApiError;
use crate::http::route::{Body, Form, Param, Reply, Route, reads, running};
use crate::messages::Refused;
use crate::messages::command::RosterCommand;
use crate::types::MemberId;
use crate::types::host::Capabilities;

const MEMBER: Param = Param::path("member", "Id of a member", MEMBER_ID).example("1");
const LABEL: Param = Param::query(
    "label",
    "Labels that a member must have, set or computed: NAME=VALUE, with commas",
    Form::Text {
        min: 1,
        max: 1_024,
        pattern: Some("^[^=,]+=[^,]*(,[^=,]+=[^,]*)*$"),
        check: reads::<Labels>,
    },
);
const LOST: Param =
    Param::query("lost", "Give up the records that only this member has", Form::Flag);

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Member id.
    pub member: String,
    /// Peer id.
    pub peer: String,
    /// Display name.
    pub name: String,
    /// Install kind or agent role.
    pub role: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Labels that somebody has set.
    pub labels: BTreeMap<String, String>,
    /// Labels that follow from what its machine is; one that somebody has set counts more.
    pub computed_labels: BTreeMap<String, String>,
    /// Smoothed round-trip time from it to the members that it talks to, in microseconds, as it
    /// announced.
    pub links_us: BTreeMap<String, u64>,
    /// When it was admitted.
    pub joined_at: String,
    /// What its build understands; the cluster speaks the lowest of all.
    pub level: u8,
    /// True if it votes.
    pub voter: bool,
    /// True if it leads.
    pub leader: bool,
    /// True if it is the node that answers this request.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// True while it answers the node that answers this request.
    pub answers: bool,
    /// True if it is not connected to that node, and has announced itself not long ago or votes: in a large cluster most
    /// members are reached on demand.
    #[serde(default)]
    pub presumed: bool,
    /// Smoothed round-trip time to it, in microseconds.
    pub rtt_us: Option<u64>,
    /// For how long it has answered without a gap, in seconds.
    pub up_s: Option<u64>,
    /// What its machine is, as it announced.
    pub capabilities: Option<Capabilities>,
}

impl NodeInfo {
    /// The value of a label, set or computed.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).or_else(|| self.computed_labels.get(name)).map(String::as_str)
    }
}

/// `GET /api/v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// Version of this object.
    pub schema: u32,
    /// All members, by id.
    pub items: Vec<NodeInfo>,
}

/// `GET /api/v1/nodes/{member}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Version of this object.
    pub schema: u32,
    /// The member.
    #[serde(flatten)]
    pub node: NodeInfo,
}

/// Body of `PUT /api/v1/nodes/{member}/labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// Labels to set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Labels to remove.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/nodes", "nodes", "The members, as this node sees them", running!(list))
        .permission("cluster:read")
        .params(&[&LABEL])
        .replies(&[Reply::json::<Nodes>(200, "Those with all of these labels, by id")]),
    Route::get("/api/v1/nodes/{member}", "node", "One member", running!(show))
        .permission("cluster:read")
        .params(&[&MEMBER])
        .replies(&[Reply::json::<Node>(200, "The member")])
        .refuses(&[&["NO_SUCH_MEMBER"]]),
    Route::delete("/api/v1/nodes/{member}", "node_remove", "Ends a membership", running!(remove))
        .permission("cluster:admin")
        .params(&[&MEMBER, &LOST])
        .replies(&[Reply::json::<api::Done>(200, "It is removed")])
        .refuses(&[
            codes::WRITE,
            &[
                "NO_SUCH_MEMBER",
                "LAST_MEMBER",
                "NO_MAJORITY_LEFT",
                "VOTERS_CHANGING",
                "RECORDS_AT_RISK",
            ],
        ])
        .drastic(),
    Route::put(
        "/api/v1/nodes/{member}/labels",
        "node_labels",
        "Sets and removes labels of a member",
        running!(label),
    )
    .permission("cluster:admin")
    .params(&[&MEMBER])
    .body(Body::json::<LabelChange>())
    .replies(&[Reply::json::<api::Done>(200, "They are set")])
    .refuses(&[codes::WRITE, &["NO_SUCH_MEMBER"]]),
];

/// Labels that are looked for.
struct Labels(Vec<(String, String)>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            let found = label.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) =
                found.ok_or_else(|| format!("expected NAME=VALUE, found {label:?}"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        text.split(',').map(label).collect::<Result<_, _>>().map(Self)
    }
}

fn member(call: &Call) -> Result<MemberId, ApiError> {
    let text: String = call.needed(&MEMBER)?;
    member_id(&text).map_err(|reason| ApiError::invalid(MEMBER.name, reason))
}

/// All members as this node sees them.
async fn members(app: &App) -> Result<BTreeMap<MemberId, NodeInfo>, ApiError> {
    let status = app.status().await?;
    let peers::Reply(peers) = app.node.env().directory.peers.ask(peers::Request::Status).await?;
    let peers: BTreeMap<MemberId, PeerStatus> =
        peers.into_iter().map(|peer| (peer.member, peer)).collect();
    let info = |(id, known): (&MemberId, &std::sync::Arc<Member>)| {
        (*id, info(app, &status.role, known, peers.get(id)))
    };
    Ok(status.view.roster.members.iter().map(info).collect())
}

fn info(app: &App, role: &Role, member: &Member, peer: Option<&PeerStatus>) -> NodeInfo {
    let env = app.node.env();
    let is_self = member.id == app.node.member();
    let link = peer.and_then(|peer| peer.link.as_ref());
    let announced = peer.and_then(|peer| peer.announcement.as_ref());
    let links = announced.map(|(announcement, _)| &announcement.links);
    let links = links.into_iter().flatten().map(|(id, us)| (id.to_string(), u64::from(*us)));
    let (up_s, capabilities) = if is_self {
        let up = env.ports.clock.now().since(app.started).as_secs();
        (Some(up), Some(env.ports.host.capabilities()))
    } else {
        let capabilities = announced.map(|(announcement, _)| announcement.capabilities.clone());
        (link.map(|link| u64::from(link.up_s)), capabilities)
    };
    NodeInfo {
        member: member.id.to_string(),
        peer: member.peer.to_string(),
        name: member.name.clone(),
        role: member.role.clone(),
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
        labels: member.labels.clone(),
        computed_labels: capabilities.as_ref().map(Capabilities::labels).unwrap_or_default(),
        links_us: links.collect(),
        joined_at: member.joined_at.to_string(),
        level: member.level.0,
        voter: role.voters.contains(&member.id),
        leader: role.leader == Some(member.id),
        is_self,
        answers: is_self || peer.is_some_and(|peer| peer.answers),
        presumed: peer.is_some_and(|peer| peer.presumed),
        // Before the first answer the time reads as zero.
        rtt_us: link.map(|link| u64::from(link.rtt_us)).filter(|rtt| *rtt > 0),
        up_s,
        capabilities,
    }
}

async fn list(app: &App, call: &mut Call) -> Answer {
    let wanted = call.parsed(&LABEL)?.unwrap_or(Labels(Vec::new()));
    let mut items: Vec<_> = members(app).await?.into_values().collect();
    items.retain(|node| {
        wanted.0.iter().all(|(name, value)| node.label(name) == Some(value.as_str()))
    });
    ok(&Nodes { schema: SCHEMA, items })
}

async fn show(app: &App, call: &mut Call) -> Answer {
    let id = member(call)?;
    let node = members(app).await?.remove(&id);
    let node = node.ok_or(Refusal::Refused(Refused::NoSuchMember(id)))?;
    ok(&Node { schema: SCHEMA, node })
}

async fn remove(app: &App, call: &mut Call) -> Answer {
    let (member, lost) = (member(call)?, call.flag(&LOST));
    app.done(RosterCommand::Remove { member, lost }).await
}

async fn label(app: &App, call: &mut Call) -> Answer {
    let member = member(call)?;
    let LabelChange { set, unset } = call.json()?;
    if set.is_empty() && unset.is_empty() {
        return Err(ApiError::invalid("body", "neither set nor unset names a label"));
    }
    app.done(RosterCommand::Label { member, set, unset }).await
}
