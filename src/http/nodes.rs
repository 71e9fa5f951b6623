//! `/api/v1/nodes`: the members, and what can be done to them.

use crate::messages::command::RosterCommand;
use std::collections::BTreeMap;

use warp::http::Method;

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, member, nowhere, ok};
use crate::core::consensus::Role;
use crate::core::control::Member;
use crate::core::peers::{self, PeerStatus};
use crate::core::refusal::Refusal;
use crate::messages::{Command, Refused};
use crate::types::MemberId;
use crate::types::host::Capabilities;

/// Finds the handler of a path below `nodes`.
pub async fn route(app: &App, request: &mut Request, rest: &[&str]) -> Answer {
    match (rest, &request.method) {
        ([], &Method::GET) => list(app, request).await,
        ([], _) => Err(ApiError::method("GET")),
        ([id], &Method::GET) => show(app, member("member", id)?).await,
        ([id], &Method::DELETE) => remove(app, request, member("member", id)?).await,
        ([_], _) => Err(ApiError::method("GET, DELETE")),
        ([id, "labels"], &Method::PUT) => label(app, request, member("member", id)?).await,
        ([_, "labels"], _) => Err(ApiError::method("PUT")),
        _ => Err(nowhere(&request.path)),
    }
}

/// All members as this node sees them.
async fn members(app: &App) -> Result<BTreeMap<MemberId, api::NodeInfo>, ApiError> {
    let status = app.status().await?;
    let peers::Reply(peers) = app.node.env().directory.peers.ask(peers::Request::Status).await?;
    let peers: BTreeMap<MemberId, PeerStatus> =
        peers.into_iter().map(|peer| (peer.member, peer)).collect();
    let info = |(id, known): (&MemberId, &std::sync::Arc<Member>)| {
        (*id, info(app, &status.role, known, peers.get(id)))
    };
    Ok(status.view.roster.members.iter().map(info).collect())
}

fn info(app: &App, role: &Role, member: &Member, peer: Option<&PeerStatus>) -> api::NodeInfo {
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
    api::NodeInfo {
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

async fn list(app: &App, request: &Request) -> Answer {
    let wanted = request.query("label")?.unwrap_or_default();
    let wanted = wanted.split(',').filter(|label| !label.is_empty()).map(|label| {
        label.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            ApiError::invalid("label", format!("expected NAME=VALUE, found {label:?}"))
        })
    });
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    let mut items: Vec<_> = members(app).await?.into_values().collect();
    items.retain(|node| wanted.iter().all(|(name, value)| node.label(name) == Some(value)));
    ok(&api::Nodes { schema: SCHEMA, items })
}

async fn show(app: &App, id: MemberId) -> Answer {
    let node = members(app).await?.remove(&id);
    let node = node.ok_or(Refusal::Refused(Refused::NoSuchMember(id)))?;
    ok(&api::Node { schema: SCHEMA, node })
}

async fn remove(app: &App, request: &Request, member: MemberId) -> Answer {
    let lost = request.query_flag("lost")?;
    done(app, Command::Roster(RosterCommand::Remove { member, lost })).await
}

async fn label(app: &App, request: &mut Request, member: MemberId) -> Answer {
    let change: api::LabelChange = request.json().await?;
    if change.set.is_empty() && change.unset.is_empty() {
        return Err(ApiError::invalid("body", "neither set nor unset names a label"));
    }
    done(
        app,
        Command::Roster(RosterCommand::Label { member, set: change.set, unset: change.unset }),
    )
    .await
}

/// Has a command decided that has nothing more to say.
pub(super) async fn done(app: &App, command: Command) -> Answer {
    let written = app.write(None, command).await?;
    ok(&api::Done { schema: SCHEMA, done: true, index: written.log_id.index })
}
