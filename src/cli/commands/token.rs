//! `bzzz join-token`: tokens with which further nodes join.

use super::Session;
use crate::cli::args::TokenCommand;
use crate::cli::error::CliError;
use crate::cli::table::{table, utc};
use crate::http::api::Done;
use crate::http::routes::tokens::{NewToken, TokenInfo, TokenRequest, Tokens};
use crate::types::TokenId;

const PATH: &str = "/api/v1/join-tokens";

/// Runs a command about join tokens.
pub fn token(session: &Session<'_>, command: TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create { ttl, uses } => {
            let request = TokenRequest { ttl_s: ttl.as_secs(), uses };
            let answer = session.client()?.post(PATH, &request)?;
            // The token alone on stdout, so that it can go straight into a file.
            session.out.answer(&answer, |token: &NewToken| {
                let (expires, uses) = (utc(&token.expires_at), token.uses);
                session.out.say(&format!(
                    "token {} lets {uses} join until {expires}; keep it secret, use it with\n  \
                     bzzz run --join ADDRESS --token-file FILE",
                    token.token_id,
                ));
                format!("{}\n", token.token)
            })
        }
        TokenCommand::List => {
            let answer = session.client()?.get(PATH)?;
            session.out.list(&answer, |tokens: &Tokens| &tokens.items, |t| list(&t.items))
        }
        TokenCommand::Revoke { token_id } => {
            let id: TokenId = token_id.parse().map_err(|error: crate::types::ids::IdError| {
                CliError::usage(error.to_string())
                    .hint("`bzzz join-token list` shows the ids; a whole token is not wanted here")
            })?;
            let answer = session.client()?.delete(&format!("{PATH}/{id}"))?;
            session.out.answer(&answer, |_: &Done| format!("token {id} is useless now\n"))
        }
    }
}

fn list(tokens: &[TokenInfo]) -> String {
    let row = |token: &TokenInfo| {
        let used = format!("{} of {}", token.used, token.uses);
        [token.token_id.clone(), used, utc(&token.expires_at)]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    table(["TOKEN", "USED", "EXPIRES"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_listed_without_secrets() {
        let token = TokenInfo {
            token_id: "0202020202020202".into(),
            expires_at: "2025-08-10T16:22:20.000Z".into(),
            uses: 4,
            used: 1,
        };
        let expected = "\
TOKEN             USED    EXPIRES
0202020202020202  1 of 4  2025-08-10 16:22:20 UTC
";
        assert_eq!(list(&[token]), expected);
    }
}
