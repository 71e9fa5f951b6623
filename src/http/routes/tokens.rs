//! `/api/v1/join-tokens`: making, listing and revoking join tokens.
//!
//! The secret of a token is drawn here and leaves in one answer; the cluster keeps its hash only.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

use warp::http::StatusCode;

use crate::core::refusal::Refusal;
use crate::http::answer::{Answer, json, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::codes;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Form, Param, Reply, Route, reads, running};
use crate::messages::command::TokensCommand;
use crate::node::{TIME_WAIT, cluster_time};
use crate::types::limits::{JOIN_TOKEN_PEERS_MAX, JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_USES_MAX};
use crate::types::{JoinTokenText, PeerId, TokenId};

const TOKEN: Param = Param::path(
    "token_id",
    "The 16 hexadecimal digits of a token's public part",
    Form::Text { min: 16, max: 16, pattern: Some("^[0-9a-fA-F]{16}$"), check: reads::<TokenId> },
)
.example("00112233445566ff");

/// Body of `POST /api/v1/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For how long it is good, in seconds.
    #[serde(default = "TokenRequest::default_ttl_s")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub ttl_s: u64,
    /// How many nodes may join with it.
    #[serde(default = "TokenRequest::default_uses")]
    #[schema(minimum = 1, maximum = 1_000)]
    pub uses: u32,
}

impl TokenRequest {
    fn default_ttl_s() -> u64 {
        3_600
    }

    fn default_uses() -> u32 {
        1
    }
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self { ttl_s: Self::default_ttl_s(), uses: Self::default_uses() }
    }
}

/// A join token that was just made. The only answer that holds its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Version of this object.
    pub schema: u32,
    /// The token itself. A secret.
    pub token: String,
    /// Its public part, in hexadecimal.
    pub token_id: String,
    /// From when on it is refused.
    pub expires_at: String,
    /// How many nodes may join with it.
    pub uses: u32,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewToken({})", self.token_id)
    }
}

/// A join token as the cluster knows it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its public part, in hexadecimal.
    pub token_id: String,
    /// From when on it is refused.
    pub expires_at: String,
    /// How many nodes may join with it.
    pub uses: u32,
    /// How many did.
    pub used: u32,
}

/// `GET /api/v1/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// Version of this object.
    pub schema: u32,
    /// All tokens, by id.
    pub items: Vec<TokenInfo>,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/join-tokens",
        "tokens",
        "The join tokens, without their secrets",
        running!(list),
    )
    .permission("tokens:read")
    .replies(&[Reply::json::<Tokens>(200, "All of them, by id")]),
    Route::post("/api/v1/join-tokens", "token_make", "Makes a join token", running!(create))
        .permission("tokens:write")
        .body(Body::json::<TokenRequest>().optional())
        .replies(&[Reply::json::<NewToken>(201, "The token; the one answer with its secret")])
        .refuses(&[codes::WRITE, &["CLOCK_WRONG"]]),
    Route::delete(
        "/api/v1/join-tokens/{token_id}",
        "token_revoke",
        "Revokes a join token",
        running!(revoke),
    )
    .permission("tokens:write")
    .params(&[&TOKEN])
    .replies(&[Reply::json::<api::Done>(200, "It is revoked")])
    .refuses(&[codes::WRITE, &["TOKEN_UNKNOWN"]]),
];

async fn list(app: &App, _: &mut Call) -> Answer {
    let status = app.status().await?;
    let info = |(id, token): (&TokenId, &crate::core::control::JoinToken)| TokenInfo {
        token_id: id.to_string(),
        expires_at: token.expires_at.to_string(),
        uses: token.uses,
        used: u32::try_from(token.used_by.len()).unwrap_or(u32::MAX),
    };
    ok(&Tokens { schema: SCHEMA, items: status.view.tokens.iter().map(info).collect() })
}

async fn revoke(app: &App, call: &mut Call) -> Answer {
    app.done(TokensCommand::Revoke { token: call.needed(&TOKEN)? }).await
}

async fn create(app: &App, call: &mut Call) -> Answer {
    let TokenRequest { ttl_s, uses } = call.json()?;
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
    let create = TokensCommand::Create { token, secret_hash, expires_at, uses };
    app.write(None, create.into()).await?;
    json(
        StatusCode::CREATED,
        &NewToken {
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
