//! The way to a node through the socket in its data directory.
//!
//! Flow: [`Socket`] opens connections for the HTTP client in place of TCP ones; to the rest of it
//! they are like any other. Names are not resolved, as there is only one place to connect to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::http::api::{SOCKET_FILE, SOCKET_PATH_LEN_MAX};

/// The URL under which requests go through a socket; no name in it is looked up.
pub const BASE: &str = "http://localhost";

/// A socket that a node listens at.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Socket {
    /// The socket in the data directory `dir`, if a node listens there.
    pub fn in_dir(dir: &Path, limit: Duration) -> Option<Self> {
        let path = dir.join(SOCKET_FILE);
        let is_socket = |found: std::fs::Metadata| found.file_type().is_socket();
        let there = path.as_os_str().len() <= SOCKET_PATH_LEN_MAX
            && path.symlink_metadata().is_ok_and(is_socket);
        // One that a killed node has left leads nowhere.
        (there && open(&path, Some(limit)).is_ok()).then_some(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Connects within `limit`: where a node stands still and many wait for it, the kernel has the next
/// one wait as well.
fn open(path: &Path, limit: Option<Duration>) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, limit)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Connector for Socket {
    type Out = LocalTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let stream = open(&self.0, rest(&details.timeout)?)
            .map_err(|error| failure(error, &details.timeout))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(LocalTransport { stream, buffers }))
    }
}

/// A connection through the socket.
#[derive(Debug)]
pub struct LocalTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for LocalTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(rest(&timeout)?)?;
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(|error| failure(error, &timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = rest(&timeout)?;
        let began = Instant::now();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
            if left == Some(Duration::ZERO) {
                return Err(Error::Timeout(timeout.reason));
            }
            self.stream.set_read_timeout(left)?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                // By a signal that is none of this thread's business.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, &timeout)),
            }
        }
    }

    /// Between two requests an open connection has nothing to say.
    fn is_open(&mut self) -> bool {
        let mut probe = || {
            self.stream.set_nonblocking(true)?;
            let read = self.stream.read(&mut [0]);
            self.stream.set_nonblocking(false)?;
            io::Result::Ok(read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
        };
        probe().unwrap_or(false)
    }
}

/// How much time is left; none if there is no limit.
fn rest(timeout: &NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|left| *left))
}

/// The error of a call that had a time limit.
fn failure(error: io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

/// Gives every name the same address, which nobody connects to.
#[derive(Debug)]
pub struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::cli::client::Client;
    use crate::cli::error::Exit;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Reads the head of a request.
    fn head(stream: &mut UnixStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn a_client_speaks_through_the_socket_and_sends_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_FILE)).unwrap();
        let server = thread::spawn(move || {
            // The client looks first whether anybody is there.
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            let heads = ["/health", "/again"].map(|body| {
                let head = head(&mut stream);
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
                    .unwrap();
                head
            });
            (heads, stream, listener)
        });
        let client = Client::local(dir.path(), LIMIT).unwrap();
        assert_eq!(client.get("/health").unwrap().text, "/health");
        assert_eq!(client.get("/again").unwrap().text, "/again", "on the same connection");
        let ([first, second], stream, listener) = server.join().unwrap();
        assert!(first.starts_with("GET /health HTTP/1.1\r\n"), "{first}");
        assert!(!first.contains("authorization") && second.starts_with("GET /again "), "{second}");

        drop((stream, listener));
        let error = client.get("/health").unwrap_err();
        assert_eq!(error.exit, Exit::Unreachable);
        assert!(error.message.contains(SOCKET_FILE), "{}", error.message);
    }

    #[test]
    fn a_node_that_says_nothing_is_too_late() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join(SOCKET_FILE)).unwrap();
        let client = Client::local(dir.path(), Duration::from_millis(50)).unwrap();
        let error = client.get("/health").unwrap_err();
        assert!(error.message.starts_with("no answer from the node at "), "{}", error.message);
    }

    #[test]
    fn where_no_node_listens_there_is_no_way_through_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Socket::in_dir(dir.path(), LIMIT).is_none());
        let path = dir.path().join(SOCKET_FILE);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a killed node leaves it");
        assert!(Socket::in_dir(dir.path(), LIMIT).is_none());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(Socket::in_dir(dir.path(), LIMIT).is_none());
        let long = dir.path().join("x".repeat(SOCKET_PATH_LEN_MAX));
        assert!(Socket::in_dir(&long, LIMIT).is_none());
    }
}
