//! `/api/v1/join-tokens`: making, listing and revoking join tokens.
//!
//! The secret of a token is drawn here and leaves in one answer; the cluster keeps its hash only.

use crate::messages::command::TokensCommand;
use std::time::Duration;

use warp::http::{Method, StatusCode};

use super::api::{self, SCHEMA};
use super::nodes::done;
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, json, nowhere, ok};
use crate::core::refusal::Refusal;
use crate::messages::Command;
use crate::node::{TIME_WAIT, cluster_time};
use crate::types::limits::{JOIN_TOKEN_PEERS_MAX, JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_USES_MAX};
use crate::types::{JoinTokenText, PeerId, TokenId};

/// Finds the handler of a path below `join-tokens`.
pub async fn route(app: &App, request: &mut Request, rest: &[&str]) -> Answer {
    match (rest, &request.method) {
        ([], &Method::GET) => list(app).await,
        ([], &Method::POST) => create(app, request).await,
        ([], _) => Err(ApiError::method("GET, POST")),
        ([id], &Method::DELETE) => {
            let parsed = id.parse::<TokenId>();
            let token = parsed.map_err(|_| {
                ApiError::invalid("id", "expected the 16 hexadecimal digits of a token id")
            })?;
            done(app, Command::Tokens(TokensCommand::Revoke { token })).await
        }
        ([_], _) => Err(ApiError::method("DELETE")),
        _ => Err(nowhere(&request.path)),
    }
}

async fn list(app: &App) -> Answer {
    let status = app.status().await?;
    let info = |(id, token): (&TokenId, &crate::core::control::JoinToken)| api::TokenInfo {
        token_id: id.to_string(),
        expires_at: token.expires_at.to_string(),
        uses: token.uses,
        used: u32::try_from(token.used_by.len()).unwrap_or(u32::MAX),
    };
    ok(&api::Tokens { schema: SCHEMA, items: status.view.tokens.iter().map(info).collect() })
}

async fn create(app: &App, request: &mut Request) -> Answer {
    let api::TokenRequest { ttl_s, uses } = request.json().await?;
    let ttl = Duration::from_secs(ttl_s);
    if ttl.is_zero() || ttl > JOIN_TOKEN_TTL_MAX {
        let most = JOIN_TOKEN_TTL_MAX.as_secs();
        return Err(ApiError::invalid("ttl_s", format!("expected 1 to {most} seconds")));
    }
    if !(1..=JOIN_TOKEN_USES_MAX).contains(&uses) {
        return Err(ApiError::invalid("uses", format!("expected 1 to {JOIN_TOKEN_USES_MAX}")));
    }
    let peers = issuers(app).await?;
    let ports = &app.node.env().ports;
    let mut token = [0; 8];
    token.copy_from_slice(&ports.entropy.seed()[..8]);
    let text = JoinTokenText {
        cluster: app.node.identity().cluster,
        token: TokenId(token),
        secret: ports.entropy.seed(),
        peers,
    };
    let expires_at = cluster_time(app.node.env(), TIME_WAIT).await.plus(ttl);
    let (token, secret_hash) = (text.token, text.secret_hash());
    app.write(
        None,
        Command::Tokens(TokensCommand::Create { token, secret_hash, expires_at, uses }),
    )
    .await?;
    json(
        StatusCode::CREATED,
        &api::NewToken {
            schema: SCHEMA,
            token: text.reveal(),
            token_id: text.token.to_string(),
            expires_at: expires_at.to_string(),
            uses,
        },
    )
}

/// Whom a node with the token may speak to: this node, and the voters.
async fn issuers(app: &App) -> Result<Vec<PeerId>, ApiError> {
    let status = app.status().await?;
    if status.view.cluster.made.is_none() {
        // Without a view the token would name this node alone.
        return Err(Refusal::NoLeader.into());
    }
    let own = app.node.identity().peer;
    let voters = status.role.voters.iter().filter_map(|voter| status.view.peer_of(*voter));
    let others = voters.filter(|peer| *peer != own);
    Ok(std::iter::once(own).chain(others).take(JOIN_TOKEN_PEERS_MAX).collect())
}
