//! A request as handlers see it: parsed, bounded, and with nothing of the server left in it.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Bytes};
use serde::de::DeserializeOwned;
use warp::http::{HeaderMap, Method, header};

use super::api::IDEMPOTENCY_HEADER;
use super::problem::ApiError;
use super::server::Connection;
use crate::types::limits::{
    HTTP_BODY_GAP_MS, HTTP_BODY_MAX, HTTP_BODY_TIMEOUT_MS, HTTP_DRAIN_MAX, HTTP_DRAIN_MS,
};

/// Bytes of a request's path and query together.
const TARGET_LEN_MAX: usize = 4 * 1024;
/// Bytes of an idempotency key.
const IDEMPOTENCY_LEN_MAX: usize = 128;
/// Methods that some path takes.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// Why a body breaks off.
type BodyError = Box<dyn Error + Send + Sync>;

/// Why a body was not read to its end.
enum Unread {
    TooLarge,
    BrokenOff,
    Slow,
}

/// A request.
pub struct Request {
    /// Method; HEAD is answered like GET, and hyper leaves the body out.
    pub method: Method,
    /// Path as it was sent; a target that names a whole URL counts by its path.
    pub path: String,
    /// Query as it was sent.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The connection that it came on.
    pub connection: Connection,
    /// True if it came from the operator of this machine, who needs no token.
    pub local: bool,
    body: BoxBody<Bytes, BodyError>,
    /// True once the body was asked for, or was sent without waiting for that.
    body_asked: bool,
    /// True once all of the body was read.
    body_ended: bool,
    /// True once no more of the body is waited for.
    body_given_up: bool,
}

impl Request {
    /// Takes over what hyper has parsed.
    pub fn new<B>(request: hyper::Request<B>, connection: Connection, local: bool) -> Self
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Send + Sync + 'static,
    {
        let (head, body) = request.into_parts();
        let waits = head.headers.get(header::EXPECT);
        let waits =
            waits.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self {
            method: if head.method == Method::HEAD { Method::GET } else { head.method },
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            connection,
            local,
            body: body.map_err(Into::into).boxed(),
            body_asked: !waits,
            body_ended: false,
            body_given_up: false,
        }
    }

    /// True if the target names something here: `*`, and what a proxy is asked for, do not.
    fn has_path(&self) -> bool {
        self.path.starts_with('/') && self.method != Method::CONNECT
    }

    /// An error if the target names nothing here.
    pub fn check_target(&self) -> Result<(), ApiError> {
        if self.has_path() {
            return Ok(());
        }
        if self.method == Method::CONNECT || self.path == "*" && self.method == Method::OPTIONS {
            let detail = format!("a node is no proxy, and takes {METHODS} only");
            return Err(ApiError::new("METHOD_NOT_ALLOWED", detail).header(header::ALLOW, METHODS));
        }
        Err(ApiError::invalid("target", "expected a path such as /api/v1/status"))
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

    /// Reads the body, at most `most` bytes of it. A longer one is refused, at once if its length
    /// was announced.
    pub async fn body_up_to(&mut self, most: u64) -> Result<Vec<u8>, ApiError> {
        let limit = Duration::from_millis(HTTP_BODY_TIMEOUT_MS);
        let read = tokio::time::timeout(limit, self.read_up_to(most)).await;
        let failed = match read.unwrap_or(Err(Unread::Slow)) {
            Ok(bytes) => return Ok(bytes),
            Err(failed) => failed,
        };
        // What is too large may end soon; the rest of these does not.
        self.body_given_up = !matches!(failed, Unread::TooLarge);
        Err(match failed {
            Unread::TooLarge => {
                ApiError::new("BODY_TOO_LARGE", format!("a body may have {most} bytes"))
            }
            Unread::BrokenOff => ApiError::invalid("body", "it broke off"),
            Unread::Slow => {
                self.connection.body_slow();
                ApiError::invalid("body", "it did not arrive in time")
            }
        })
    }

    async fn read_up_to(&mut self, most: u64) -> Result<Vec<u8>, Unread> {
        if self.body.size_hint().exact().is_some_and(|length| length > most) {
            return Err(Unread::TooLarge);
        }
        let gap = Duration::from_millis(HTTP_BODY_GAP_MS);
        let mut bytes = Vec::new();
        loop {
            let part = tokio::time::timeout(gap, self.next_part()).await;
            let Some(part) = part.map_err(|_| Unread::Slow)? else { return Ok(bytes) };
            let part = part.map_err(|_| Unread::BrokenOff)?;
            if (bytes.len() + part.len()) as u64 > most {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(&part);
        }
    }

    /// The next bytes of the body; none once it has ended.
    async fn next_part(&mut self) -> Option<Result<Bytes, BodyError>> {
        self.body_asked = true;
        loop {
            match self.body.frame().await {
                // Trailers say nothing that anybody asks for.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(_) => continue,
                },
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.body_ended = true;
                    return None;
                }
            }
        }
    }

    /// Takes in what is left of the body, so that the connection can serve another request. False
    /// if it can't: the answer has to say so then.
    pub async fn take_in_rest(&mut self) -> bool {
        if !self.has_path() || self.body_given_up {
            return false;
        }
        if self.body_ended || self.body.is_end_stream() {
            return true;
        }
        let much = self.body.size_hint().exact().is_some_and(|length| length > HTTP_DRAIN_MAX);
        // A client that waits to be asked for its body is asked by whoever reads some of it.
        if much || !self.body_asked {
            return false;
        }
        self.connection.body_unwanted();
        let take_in = async {
            let mut left = HTTP_DRAIN_MAX;
            while let Some(part) = self.next_part().await {
                let length = part.map_or(u64::MAX, |part| part.len() as u64);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        };
        let limit = Duration::from_millis(HTTP_DRAIN_MS);
        tokio::time::timeout(limit, take_in).await.unwrap_or(false)
    }

    /// Reads a JSON body; an empty one counts as `{}`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let bytes = self.body().await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| ApiError::invalid("body", error.to_string()))
    }
}

#[cfg(test)]
impl Request {
    /// A request without a body.
    pub fn for_test(method: Method, target: &str, headers: HeaderMap) -> Self {
        let mut request = hyper::Request::new(http_body_util::Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().unwrap();
        *request.headers_mut() = headers;
        Self::new(request, Connection::default(), false)
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
    use std::task::Poll;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use warp::http::HeaderValue;

    use super::*;

    fn request(path: &str, query: &str) -> Request {
        Request::for_test(Method::GET, &format!("{path}?{query}"), HeaderMap::new())
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

    /// A request whose body comes in these parts, and then goes on without a byte or ends.
    fn with_body(headers: HeaderMap, parts: &[&'static str], ends: bool) -> Request {
        let parts = parts.iter().map(|part| Bytes::from_static(part.as_bytes()));
        let parts: Vec<_> = parts.map(|part| Ok::<_, BodyError>(Frame::data(part))).collect();
        let rest = stream::poll_fn(move |_| if ends { Poll::Ready(None) } else { Poll::Pending });
        let body = StreamBody::new(stream::iter(parts).chain(rest));
        let mut request = hyper::Request::new(body);
        *request.headers_mut() = headers;
        Request::new(request, Connection::default(), false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_up_to_its_bound_and_in_time() {
        let none = HeaderMap::new;
        let mut whole = with_body(none(), &["ab", "c"], true);
        assert_eq!(whole.body_up_to(3).await.unwrap(), b"abc");
        assert!(whole.take_in_rest().await);
        let mut long = with_body(none(), &["ab", "cd", "ef"], true);
        assert_eq!(long.body_up_to(3).await.unwrap_err().code(), "BODY_TOO_LARGE");
        assert!(long.take_in_rest().await, "the rest is little");
        let mut slow = with_body(none(), &["ab"], false);
        let error = slow.body_up_to(3).await.unwrap_err();
        assert_eq!((error.code(), slow.take_in_rest().await), ("INVALID", false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_read_is_taken_in_if_it_is_little_and_comes() {
        let none = HeaderMap::new;
        let large: &'static str = "x".repeat(HTTP_DRAIN_MAX as usize).leak();
        for (parts, ends, expected) in [
            (&["ab"][..], true, true),
            (&["ab"], false, false),
            (&[large], true, true),
            (&[large, "x"], true, false),
        ] {
            let rest = with_body(none(), parts, ends).take_in_rest().await;
            assert_eq!(rest, expected, "{} parts", parts.len());
        }
        assert!(request("/", "").take_in_rest().await, "there is none");
        let mut waits = none();
        waits.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        let mut waits = with_body(waits, &["ab"], true);
        assert!(!waits.take_in_rest().await, "it is not asked for in vain");
        assert_eq!(waits.body().await.unwrap(), b"ab");
        assert!(waits.take_in_rest().await);
    }

    #[test]
    fn a_target_is_a_path_or_an_url_of_one() {
        let check = |method: Method, target: &str| {
            let request = Request::for_test(method, target, HeaderMap::new());
            request.check_target().map(|()| request.path).map_err(|error| error.code().to_owned())
        };
        assert_eq!(check(Method::GET, "/a?b"), Ok("/a".into()));
        assert_eq!(check(Method::GET, "http://x:1/a?b"), Ok("/a".into()));
        assert_eq!(check(Method::GET, "http://x"), Ok("/".into()));
        for (method, target, code) in [
            (Method::GET, "x:1", "INVALID"),
            (Method::GET, "*", "INVALID"),
            (Method::OPTIONS, "*", "METHOD_NOT_ALLOWED"),
            (Method::CONNECT, "x:1", "METHOD_NOT_ALLOWED"),
            (Method::CONNECT, "/", "METHOD_NOT_ALLOWED"),
        ] {
            assert_eq!(check(method, target), Err(code.into()), "{target}");
        }
    }
}
