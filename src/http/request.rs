//! A request as handlers see it: parsed, bounded, and with nothing of warp left in it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use warp::Buf;
use warp::http::{HeaderMap, Method, header};

use super::api::IDEMPOTENCY_HEADER;
use super::problem::ApiError;
use super::server::Connection;
use crate::types::limits::{HTTP_BODY_MAX, HTTP_HEAD_TIMEOUT_MS};

/// Bytes of a request's path and query together.
const TARGET_LEN_MAX: usize = 4 * 1024;
/// Bytes of an idempotency key.
const IDEMPOTENCY_LEN_MAX: usize = 128;

/// Bytes of a body that are read and dropped before it is refused. A client that is still sending
/// when the connection closes does not get to see the answer.
const DISCARD_MAX: u64 = 16 * HTTP_BODY_MAX;

/// A body that has not been read yet.
pub type Body = Pin<Box<dyn Stream<Item = Result<Vec<u8>, warp::Error>> + Send + Sync>>;

/// A request.
pub struct Request {
    /// Method; HEAD is answered like GET, and hyper leaves the body out.
    pub method: Method,
    /// Path as it was sent.
    pub path: String,
    /// Query as it was sent.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The connection that it came on.
    pub connection: Connection,
    body: Body,
}

impl Request {
    /// Takes over what warp has parsed.
    pub fn new<B: Buf>(
        method: Method,
        path: String,
        query: String,
        headers: HeaderMap,
        connection: Connection,
        body: impl Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static,
    ) -> Self {
        let method = if method == Method::HEAD { Method::GET } else { method };
        let body = body.map(|part| {
            part.map(|mut part| {
                let mut bytes = vec![0; part.remaining()];
                part.copy_to_slice(&mut bytes);
                bytes
            })
        });
        Self { method, path, query, headers, connection, body: Box::pin(body) }
    }

    /// The parts of the path, decoded.
    pub fn segments(&self) -> Result<Vec<String>, ApiError> {
        if self.path.len() + self.query.len() > TARGET_LEN_MAX {
            return Err(ApiError::invalid("path", format!("it is over {TARGET_LEN_MAX} bytes")));
        }
        let parts = self.path.split('/').skip(1);
        parts
            .map(|part| {
                decode(part, false)
                    .ok_or_else(|| ApiError::invalid("path", "an escape in it is damaged"))
            })
            .collect()
    }

    /// The value of a query parameter; of the last one if there are several.
    pub fn query(&self, name: &str) -> Result<Option<String>, ApiError> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let mut found = None;
        for pair in pairs {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decode(key, true).as_deref() == Some(name) {
                let value = decode(value, true);
                found =
                    Some(value.ok_or_else(|| {
                        ApiError::invalid(name, "an escape in the query is damaged")
                    })?);
            }
        }
        Ok(found)
    }

    /// A query parameter that is a number.
    pub fn query_number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let text = self.query(name)?;
        let number = text.map(|text| text.parse());
        number.transpose().map_err(|_| ApiError::invalid(name, "expected a whole number"))
    }

    /// A query parameter that is true or false; without a value it is true.
    pub fn query_flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.query(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(ApiError::invalid(name, "expected true or false")),
        }
    }

    /// The text of a header. One that is no text counts as wrong, not as absent.
    pub fn header(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(ApiError::invalid(name, "the header is there twice"));
        }
        let text = value.to_str().map(|text| Some(text.trim()));
        text.map_err(|_| ApiError::invalid(name, "expected ASCII text"))
    }

    /// The id that makes a repetition of this request the same one, whichever node it is sent to;
    /// none if the client does not name a key. `domain` keeps different kinds of ids apart.
    pub fn idempotency(&self, domain: &str) -> Result<Option<[u8; 16]>, ApiError> {
        let Some(key) = self.header(IDEMPOTENCY_HEADER)? else { return Ok(None) };
        if !(1..=IDEMPOTENCY_LEN_MAX).contains(&key.len()) {
            let reason = format!("expected 1 to {IDEMPOTENCY_LEN_MAX} characters");
            return Err(ApiError::invalid(IDEMPOTENCY_HEADER, reason));
        }
        // The key holds no zero byte, so no two pairs give the same input.
        let hash = blake3::hash([domain, key, &self.path].join("\0").as_bytes());
        Ok(hash.as_bytes().first_chunk().copied())
    }

    /// Reads the body, at most `HTTP_BODY_MAX` bytes of it.
    pub async fn body(&mut self) -> Result<Vec<u8>, ApiError> {
        self.body_up_to(HTTP_BODY_MAX).await
    }

    /// Reads the body, at most `most` bytes of it. A longer one is refused, at once if its length was
    /// announced, and no more of it is kept.
    pub async fn body_up_to(&mut self, most: u64) -> Result<Vec<u8>, ApiError> {
        let too_large = || ApiError::new("BODY_TOO_LARGE", format!("a body may have {most} bytes"));
        let announced = self.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let read = async {
            let (mut bytes, mut length) = (Vec::new(), 0);
            while let Some(part) = self.body.next().await {
                let part = part.map_err(|_| ApiError::invalid("body", "it broke off"))?;
                length += part.len() as u64;
                if length > most.max(DISCARD_MAX) {
                    break;
                }
                if length > most {
                    bytes = Vec::new();
                } else {
                    bytes.extend_from_slice(&part);
                }
            }
            if length > most { Err(too_large()) } else { Ok(bytes) }
        };
        let limit = Duration::from_millis(HTTP_HEAD_TIMEOUT_MS);
        tokio::time::timeout(limit, read)
            .await
            .unwrap_or_else(|_| Err(ApiError::invalid("body", "it did not arrive in time")))
    }

    /// Reads a JSON body; an empty one counts as `{}`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let bytes = self.body().await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| ApiError::invalid("body", error.to_string()))
    }
}

/// Decodes the escapes of a path, or of a query, where a plus sign stands for a space.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                bytes.push((high * 16 + low) as u8);
            }
            b'+' if query => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, query: &str) -> Request {
        let body = futures_util::stream::empty::<Result<&[u8], warp::Error>>();
        let connection = Connection::default();
        Request::new(Method::GET, path.into(), query.into(), HeaderMap::new(), connection, body)
    }

    #[test]
    fn escapes_are_decoded_once_and_damaged_ones_refused() {
        assert_eq!(request("/a/b%2Fc", "").segments().unwrap(), ["a", "b/c"]);
        assert_eq!(request("/%2525", "").segments().unwrap(), ["%25"]);
        for bad in ["/%", "/%2", "/%zz", "/%ff"] {
            assert_eq!(request(bad, "").segments().unwrap_err().code(), "INVALID", "{bad}");
        }
    }

    #[test]
    fn the_last_parameter_counts() {
        let request = request("/", "a=1&b=x+y%2F&a=2&c");
        assert_eq!(request.query_number("a").unwrap(), Some(2));
        assert_eq!(request.query("b").unwrap().as_deref(), Some("x y/"));
        assert!(request.query_flag("c").unwrap());
        assert!(!request.query_flag("d").unwrap());
        assert_eq!(request.query_number("b").unwrap_err().code(), "INVALID");
    }
}
