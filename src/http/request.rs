//! A request as handlers see it: parsed, bounded, and with nothing of the server left in it. A body that is longer than
//! its route takes is refused here, as it comes in.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Bytes};
use percent_encoding::percent_decode_str;
use warp::http::uri::{Authority, Scheme};
use warp::http::{HeaderMap, Method, header};

use super::problem::ApiError;
use super::server::Connection;
use crate::types::limits::{
    HTTP_BODY_GAP_MS, HTTP_BODY_TIMEOUT_MS, HTTP_DRAIN_MAX, HTTP_DRAIN_MS, HTTP_TARGET_LEN_MAX,
};

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
    /// True if it was HEAD.
    pub is_head: bool,
    /// Path as it was sent; a target that names a whole URL counts by its path.
    pub path: String,
    /// Query as it was sent.
    pub query: String,
    /// Whom the target names, if it is a whole URL.
    named: Option<Authority>,
    /// False if it names another scheme.
    is_http: bool,
    /// Headers.
    pub headers: HeaderMap,
    /// The connection that it came on.
    pub connection: Connection,
    /// True if it came from the operator of this machine, who needs no token.
    pub local: bool,
    body: BoxBody<Bytes, BodyError>,
    /// The beginning of the body, where it was looked at.
    ahead: Bytes,
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
            is_head: head.method == Method::HEAD,
            named: head.uri.authority().cloned(),
            is_http: head.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP),
            method: if head.method == Method::HEAD { Method::GET } else { head.method },
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            connection,
            local,
            body: body.map_err(Into::into).boxed(),
            ahead: Bytes::new(),
            body_asked: !waits,
            body_ended: false,
            body_given_up: false,
        }
    }

    /// True if the target names something here: `*`, and what a proxy is asked for, do not.
    fn has_path(&self) -> bool {
        self.path.starts_with('/') && self.method != Method::CONNECT && self.is_http
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
        Err(ApiError::invalid(
            "target",
            "expected a path such as /api/v1/status, or an http:// URL",
        ))
    }

    /// The parts of the path, decoded.
    pub fn segments(&self) -> Result<Vec<String>, ApiError> {
        if self.path.len() + self.query.len() > HTTP_TARGET_LEN_MAX {
            let detail = format!("path and query may have {HTTP_TARGET_LEN_MAX} bytes together");
            return Err(ApiError::new("TARGET_TOO_LONG", detail));
        }
        let damaged = || ApiError::invalid("path", "an escape in it is damaged");
        self.path.split('/').skip(1).map(|part| decoded(part).ok_or_else(damaged)).collect()
    }

    /// What the query says, in its order; a plus sign stands for a space.
    pub fn pairs(&self) -> Result<Vec<(String, String)>, ApiError> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let both = decoded(&name.replace('+', " ")).zip(decoded(&text.replace('+', " ")));
            both.ok_or_else(|| ApiError::invalid("query", "an escape in it is damaged"))
        };
        pairs.map(read).collect()
    }

    /// Whom it is addressed to: the target says it if that is a whole URL, else the header Host.
    pub fn authority(&self) -> Result<Option<Authority>, ApiError> {
        let host = self.header("host")?;
        let Some(text) = self.named.as_ref().map(Authority::as_str).or(host) else {
            return Ok(None);
        };
        let is_whole = |authority: &Authority| {
            let text = authority.as_str();
            let text = text.rsplit_once('@').map_or(text, |(_, text)| text);
            let rest = text.strip_prefix(authority.host()).unwrap_or(text);
            rest.is_empty()
                || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        };
        let authority = text.parse().ok().filter(is_whole);
        let wrong = || ApiError::invalid("host", "expected a name and a port, as localhost:8080");
        authority.map(Some).ok_or_else(wrong)
    }

    /// True if it has a body; one of no bytes is none, also where that shows only once it has come.
    pub async fn has_body(&mut self) -> bool {
        if self.body.is_end_stream() {
            return false;
        }
        // Whoever waits to be asked for it has one.
        if self.body.size_hint().exact().is_some() || !self.body_asked {
            return true;
        }
        let gap = Duration::from_millis(HTTP_BODY_GAP_MS);
        match tokio::time::timeout(gap, self.next_part()).await {
            Ok(Some(Ok(bytes))) => {
                self.ahead = bytes;
                true
            }
            Ok(None) => false,
            // Whoever reads it finds out.
            Ok(Some(Err(_))) | Err(_) => true,
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

    /// Reads the body, at most `most` bytes of it. A longer one is refused as `over`, at once if its
    /// length was announced.
    pub async fn body_up_to(&mut self, most: u64, over: &'static str) -> Result<Vec<u8>, ApiError> {
        let limit = Duration::from_millis(HTTP_BODY_TIMEOUT_MS);
        let read = tokio::time::timeout(limit, self.read_up_to(most)).await;
        let failed = match read.unwrap_or(Err(Unread::Slow)) {
            Ok(bytes) => return Ok(bytes),
            Err(failed) => failed,
        };
        // What is too large may end soon; the rest of these does not.
        self.body_given_up = !matches!(failed, Unread::TooLarge);
        Err(match failed {
            Unread::TooLarge => ApiError::new(over, format!("it may have {most} bytes")),
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
        let mut bytes = std::mem::take(&mut self.ahead).to_vec();
        if bytes.len() as u64 > most {
            return Err(Unread::TooLarge);
        }
        loop {
            if self.body_ended {
                return Ok(bytes);
            }
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
}

#[cfg(test)]
impl Request {
    /// A request without a body.
    pub fn for_test(method: Method, target: &str, headers: HeaderMap) -> Self {
        Self::with_body(method, target, headers, b"")
    }

    /// A request with this body.
    pub fn with_body(
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: &'static [u8],
    ) -> Self {
        let body = http_body_util::Full::new(Bytes::from_static(body));
        let mut request = hyper::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().unwrap();
        *request.headers_mut() = headers;
        Self::new(request, Connection::default(), false)
    }
}

/// The text behind the escapes, if they are whole and it is text.
fn decoded(text: &str) -> Option<String> {
    // What is no escape would be left as it is.
    let mut rests = text.split('%').skip(1).map(str::as_bytes);
    let is_whole = rests
        .all(|rest| rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let text = percent_decode_str(text).decode_utf8().ok()?;
    is_whole.then(|| text.into_owned())
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
    fn a_query_is_read_as_it_was_sent() {
        let pairs = request("/", "a=1&b=x+y%2F&a=2&c&").pairs().unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y/"), ("a", "2"), ("c", "")]);
        for bad in ["a=%", "%zz=1", "a=%ff"] {
            assert_eq!(request("/", bad).pairs().unwrap_err().code(), "INVALID", "{bad}");
        }
        let long = request(&format!("/{}", "x".repeat(HTTP_TARGET_LEN_MAX)), "").segments();
        assert_eq!(long.unwrap_err().code(), "TARGET_TOO_LONG");
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
        assert_eq!(whole.body_up_to(3, "BODY_TOO_LARGE").await.unwrap(), b"abc");
        assert!(whole.take_in_rest().await);
        let mut long = with_body(none(), &["ab", "cd", "ef"], true);
        assert_eq!(
            long.body_up_to(3, "VALUE_TOO_LARGE").await.unwrap_err().code(),
            "VALUE_TOO_LARGE"
        );
        assert!(long.take_in_rest().await, "the rest is little");
        let mut slow = with_body(none(), &["ab"], false);
        let error = slow.body_up_to(3, "BODY_TOO_LARGE").await.unwrap_err();
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
        assert_eq!(waits.body_up_to(2, "BODY_TOO_LARGE").await.unwrap(), b"ab");
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
            (Method::GET, "ftp://localhost/", "INVALID"),
            (Method::GET, "https://localhost/", "INVALID"),
            (Method::GET, "*", "INVALID"),
            (Method::OPTIONS, "*", "METHOD_NOT_ALLOWED"),
            (Method::CONNECT, "x:1", "METHOD_NOT_ALLOWED"),
            (Method::CONNECT, "/", "METHOD_NOT_ALLOWED"),
        ] {
            assert_eq!(check(method, target), Err(code.into()), "{target}");
        }
    }
}
