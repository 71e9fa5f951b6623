//! The HTTP client of the command line.
//!
//! One node is asked, the one that `--addr` names, or the one whose data directory is here, by the
//! socket in it. The token is read from a file or from the environment, never from an argument, and
//! is sent nowhere but to that address: no proxy, no redirect. The socket takes none.

mod local;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use super::error::{CliError, Exit};
use crate::http::api::{Problem, SCHEMA};
use crate::http::routes::status::Ready;

/// Longest file that is taken for a token.
const TOKEN_FILE_LEN_MAX: u64 = 4_096;
/// How long a command waits for an answer: the longest that a node takes over a write, and some.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_LEN_MAX: u64 = 32 * 1024 * 1024;

/// The token of the API. Debug output does not show it.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads a token from a text, without the line end that editors add.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    /// Reads a token from a file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let fail = |reason: &str| {
            let shown = path.display();
            CliError::new(Exit::Auth, format!("cannot read the API token from {shown}: {reason}"))
                .hint(
                    "name the api.token file in the node's data directory with --token-file, \
                     and read it as the user that runs the node",
                )
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(TOKEN_FILE_LEN_MAX).read_to_string(&mut text))
            .map_err(|error| fail(&error.to_string()))?;
        Self::parse(&text).ok_or_else(|| fail("it does not hold a token"))
    }
}

/// An answer that reports success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub text: String,
}

impl Answer {
    /// The object in the body.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.text).map_err(|error| {
            CliError::failure(format!("the node answered something unexpected: {error}"))
                .hint(format!("use a bzzz of the same version as the node (schema {SCHEMA})"))
        })
    }
}

/// How to reach one node.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    base: String,
    /// What the node is called where it is not reached.
    name: String,
    token: Option<Secret>,
    /// Why there is no token.
    missing: Option<Box<CliError>>,
}

impl Client {
    /// A client of the node at `address`, a URL or a host and port.
    pub fn new(address: &str, token: Option<Secret>) -> Result<Self, CliError> {
        Self::with_timeout(address, token, REQUEST_TIMEOUT)
    }

    /// A client that gives each request as long as `timeout`.
    pub fn with_timeout(
        address: &str,
        token: Option<Secret>,
        timeout: Duration,
    ) -> Result<Self, CliError> {
        let (agent, base) = (Agent::new_with_config(config(timeout)), base_of(address)?);
        Ok(Self { agent, name: base.clone(), base, token, missing: None })
    }

    /// A client of the node whose data directory is `dir`, by the socket in it. None where that
    /// leads to no node.
    pub fn local(dir: &Path, timeout: Duration) -> Option<Self> {
        let socket = local::Socket::in_dir(dir, CONNECT_TIMEOUT.min(timeout))?;
        let name = format!("the node at {}", socket.path().display());
        let agent = Agent::with_parts(config(timeout), socket, local::NoNames);
        Some(Self { agent, base: local::BASE.to_owned(), name, token: None, missing: None })
    }

    /// The same client, that knows why it has no token and says so if the node wants one.
    #[must_use]
    pub fn without_token(self, why: CliError) -> Self {
        Self { missing: Some(Box::new(why)), ..self }
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Answer, CliError> {
        self.send("GET", path, &[], None)
    }

    /// Reads and parses something.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.get(path)?.parse()
    }

    /// Removes something.
    pub fn delete(&self, path: &str) -> Result<Answer, CliError> {
        self.send("DELETE", path, &[], None)
    }

    /// Sends an object for something new.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, CliError> {
        self.send_json("POST", path, body)
    }

    /// Sends an object in place of what is there.
    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Answer, CliError> {
        self.send_json("PUT", path, body)
    }

    fn send_json(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, CliError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CliError::failure(format!("cannot write json: {error}")))?;
        self.send(method, path, &[("content-type", "application/json")], Some(&body))
    }

    /// Sends one request and reads the whole answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, CliError> {
        self.finish(self.exchange(method, path, headers, body)?)
    }

    /// What the node says about its readiness, which is an answer also where it is not ready.
    pub fn ready(&self) -> Result<Ready, CliError> {
        let answer = self.exchange("GET", "/ready", &[], None)?;
        if answer.status == 503
            && let Ok(ready) = answer.parse()
        {
            return Ok(ready);
        }
        self.finish(answer)?.parse()
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, CliError> {
        let request = self.request(method, path, headers);
        let answer = match body {
            Some(body) => request
                .body(body)
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request)),
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request)),
        };
        self.receive(answer.map_err(|error| self.unreachable(&error))?)
    }

    /// Opens a stream of events; only the head of the answer has a time limit.
    pub fn stream(&self, path: &str) -> Result<impl Read + use<>, CliError> {
        let request = self
            .request("GET", path, &[("accept", "text/event-stream")])
            .body(())
            .map_err(|error| self.unreachable(&ureq::Error::from(error)))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_recv_response(Some(REQUEST_TIMEOUT))
            .build();
        let answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body().into_reader());
        }
        match self.receive(answer).and_then(|answer| self.finish(answer)) {
            Ok(_) => Err(CliError::failure("the node did not open a stream of events")),
            Err(error) => Err(error),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> ureq::http::request::Builder {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.0));
        }
        request
    }

    fn receive(&self, mut answer: Response<Body>) -> Result<Answer, CliError> {
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status, text })
    }

    /// Tells success from failure.
    fn finish(&self, answer: Answer) -> Result<Answer, CliError> {
        match (answer.status, &self.missing) {
            (200..300, _) => return Ok(answer),
            (401, Some(missing)) => return Err(CliError::clone(missing)),
            _ => {}
        }
        match serde_json::from_str::<Problem>(&answer.text) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(CliError::failure(format!(
                "{} answered with status {} and no reason",
                self.name, answer.status
            ))
            .hint("check with --addr that a bzzz node listens there")),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> CliError {
        let (name, exit) = (&self.name, Exit::Unreachable);
        match error {
            ureq::Error::Timeout(_) => {
                CliError::new(exit, format!("no answer from {name} in time")).hint(
                    "a write may have happened all the same; read the value before you \
                           repeat it",
                )
            }
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
                CliError::usage(format!("cannot ask {name}: {error}"))
            }
            _ => CliError::new(exit, format!("cannot reach {name}: {error}")).hint(
                "start a node with `bzzz run` or `bzzz dev`, or name another one with --addr",
            ),
        }
    }
}

fn config(timeout: Duration) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        // A proxy from the environment would get to see the token.
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
        .timeout_global(Some(timeout))
        .max_idle_connections(64)
        .max_idle_connections_per_host(64)
        .user_agent(concat!("bzzz/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The URL that an address stands for.
fn base_of(address: &str) -> Result<String, CliError> {
    let hint = "write it as http://127.0.0.1:8080";
    if address.starts_with("https://") {
        return Err(CliError::usage("the API speaks plain http, on the loopback interface only")
            .hint("use ssh -L to reach the API of another machine, and an http:// address"));
    }
    let rest = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if rest.is_empty() || !rest.bytes().all(plain) {
        let shown = super::table::printable(address);
        return Err(CliError::usage(format!("{shown:?} is not the address of an API")).hint(hint));
    }
    Ok(format!("http://{rest}"))
}

/// The text as it may stand in the query of a URL.
pub fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        for given in ["http://127.0.0.1:8080/", "127.0.0.1:8080", "http://127.0.0.1:8080"] {
            assert_eq!(base_of(given).unwrap(), "http://127.0.0.1:8080");
        }
        for bad in ["", "http://", "https://127.0.0.1", "http://a b", "http://me:pw@host/x"] {
            assert_eq!(base_of(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn tokens_are_read_and_hidden() {
        let secret = Secret::parse(" abc\n").unwrap();
        assert_eq!(&*secret.0, "abc");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert!(Secret::parse("a b").is_none() && Secret::parse("\n").is_none());
        let error = Secret::read(Path::new("/nonexistent/token")).unwrap_err();
        assert_eq!(error.exit, Exit::Auth);
        assert!(error.hint.is_some());
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("ai_models/a b&c"), "ai_models/a%20b%26c");
    }

    #[test]
    fn a_node_that_is_not_there_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::new(&address, None).unwrap().get("/health").unwrap_err();
        assert_eq!(error.exit, Exit::Unreachable);
        assert!(error.hint.unwrap().contains("bzzz run"));
    }
}
