//! Whom a request is addressed to, and which page sends it.
//!
//! Problem: a page on the Internet can have its name resolve to 127.0.0.1 and then talk to this node as to its own
//! server (DNS rebinding), and any page can send simple requests anywhere. A browser says both: the name in `Host`, the
//! page in `Origin`. The socket is checked like the port: `ssh -L 8080:DIR/api.sock` makes a port of it that asks for
//! no token.

use std::net::{Ipv4Addr, Ipv6Addr};

use warp::http::uri::Authority;

use super::problem::{ApiError, shown};
use super::request::Request;

/// An error if a request asks under a wrong name, or for a page of somebody else.
pub fn check(request: &Request) -> Result<(), ApiError> {
    let Some(authority) = request.authority()? else {
        let reason = "it is missing; name the node in it, as in localhost:8080";
        return Err(ApiError::invalid("host", reason));
    };
    if !is_loopback(&authority) {
        let detail = format!("this node is not called {}", shown(authority.as_str()));
        let hint =
            "ask it as localhost, 127.0.0.1 or [::1], on any port; from elsewhere through `ssh -L`";
        return Err(ApiError::new("HOST_WRONG", detail).hint(hint));
    }
    let Some(origin) = request.header("origin")? else { return Ok(()) };
    // The page that was loaded under the name that is asked, and no other: a page of another program on this machine
    // is a stranger.
    let is_own = ["http://", "https://"].iter().any(|scheme| {
        let rest = origin.strip_prefix(scheme);
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(authority.as_str()))
    });
    if is_own {
        return Ok(());
    }
    let detail = format!("pages of {} may not ask this node", shown(origin));
    Err(ApiError::new("ORIGIN_WRONG", detail))
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_loopback = match in_brackets {
        Some(address) => address.parse().map(|ip: Ipv6Addr| ip.to_canonical().is_loopback()),
        None => host.parse().map(|ip: Ipv4Addr| ip.is_loopback()),
    };
    let has_user = authority.as_str().contains('@');
    !has_user && (is_loopback.unwrap_or(false) || host.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::*;

    fn asked(target: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        check(&Request::for_test(Method::GET, target, map)).map_err(|error| error.code().to_owned())
    }

    fn wrong(code: &str) -> Result<(), String> {
        Err(code.to_owned())
    }

    #[test]
    fn a_node_is_asked_by_a_name_of_loopback_and_any_port() {
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:9",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(asked("/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "localhost@evil.example",
            "evil.example@localhost",
            "[::2]:80",
            "localhost.",
        ] {
            assert_eq!(asked("/", &[("host", host)]), wrong("HOST_WRONG"), "{host}");
        }
        for host in ["a b", "localhost:port", "localhost:", "localhost:99999", "x/y", ""] {
            assert_eq!(asked("/", &[("host", host)]), wrong("INVALID"), "{host}");
        }
        assert_eq!(asked("/", &[]), wrong("INVALID"));
        assert_eq!(asked("/", &[("host", "localhost"), ("host", "localhost")]), wrong("INVALID"));
    }

    #[test]
    fn a_whole_url_counts_more_than_its_header() {
        let local = [("host", "localhost")];
        assert_eq!(asked("http://127.0.0.1:1/", &[("host", "evil.example")]), Ok(()));
        assert_eq!(asked("http://evil.example/", &local), wrong("HOST_WRONG"));
        assert_eq!(asked("http://localhost:99999/", &local), wrong("INVALID"));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(asked("http://localhost/", &twice), wrong("INVALID"));
    }

    #[test]
    fn a_page_asks_where_it_was_loaded_from_and_nowhere_else() {
        let from = |origin| asked("/", &[("host", "localhost:1"), ("origin", origin)]);
        assert_eq!(from("http://localhost:1"), Ok(()));
        assert_eq!(from("https://LOCALHOST:1"), Ok(()));
        for origin in [
            "http://evil.example",
            "http://localhost:2",
            "http://localhost",
            "http://127.0.0.1:1",
            "null",
            "file://",
            "localhost:1",
        ] {
            assert_eq!(from(origin), wrong("ORIGIN_WRONG"), "{origin}");
        }
    }
}
