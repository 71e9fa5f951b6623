//! The listeners of the API: who may connect, how many, and for how long.
//!
//! Problem: everybody on this machine can connect, do nothing, send half of something, or never
//! read an answer. That must cost others nothing, and whoever is refused must get to see why.
//!
//! What answers is a *service*, from the moment at which the port is bound.
//!
//! Flow: two *doors*, the port on loopback and the socket in the data directory, accept
//! connections -> each gets a place (`places`), or is told that there is none -> hyper reads
//! requests from it -> the service answers -> what is left of a request is taken in, or the answer
//! says that the connection closes, and that lingers (`stream`). A sweep ends connections that are
//! over a time limit, and says so (`closings`).
//!
//! Invariants:
//! 1. Only loopback addresses are bound: the API has no TLS.
//! 2. Connections are accepted always, and no more are open than there are places.
//! 3. A connection ends after an answer only if the answer says so, or the client has nothing under
//!    way.

mod closings;
mod local;
mod places;
mod refused;
mod stream;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{self, Either};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use warp::http::header;
use warp::reply::Response;

use super::answer::set;
use super::request::Request;
use crate::types::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX, HTTP_LOCAL_CONNECTIONS_MAX,
};
use closings::Reason;
pub use closings::{Closings, REASONS};
use local::{LocalSocket, SocketFile, is_operator};
pub use places::{Connection, Places};
use places::{Place, Taken};
use refused::{no_place, no_request};
use stream::{Watched, linger};

/// Bytes of answers that the kernel keeps for one client that does not read them.
const SEND_BUFFER_LEN: usize = 256 * 1024;
/// Connections at once that are told that there is no place for them.
const TURNED_AWAY_MAX: usize = 32;
/// How long such a connection may take to be told.
const TURN_AWAY_WAIT: Duration = Duration::from_secs(1);
/// How long requests under way may take after the server was told to stop.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long the server waits after it could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often connections are looked at that may be over a time limit.
const SWEEP_PAUSE: Duration = Duration::from_millis(250);

/// Answers requests, whatever they are.
pub trait Service: Send + Sync + 'static {
    /// Answers one.
    fn answer<'a>(&'a self, request: &'a mut Request)
    -> impl Future<Output = Response> + Send + 'a;

    /// Ends what would go on for ever, such as streams of events.
    fn stop(&self);
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others than this machine could connect.
    #[error(
        "the API is plain HTTP and {0} is not a loopback address; use 127.0.0.1, and a tunnel \
         (`ssh -L`) from elsewhere"
    )]
    NotLoopback(SocketAddr),
    /// Another program listens there.
    #[error(
        "the port of the API, {0}, is taken by another program; stop it, or choose another port \
         with --api (port 0 takes a free one)"
    )]
    PortTaken(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {0} for the API: {1}; choose another address with --api")]
    Listen(SocketAddr, std::io::Error),
}

/// Sockets that are bound and not served yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    local: Option<LocalSocket>,
}

impl Bound {
    /// Takes the port.
    pub fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let fail = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => ServeError::PortTaken(address),
            _ => ServeError::Listen(address, error),
        };
        let listener = TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        // Connections take it over. Without it the kernel keeps more, which is no reason to fail.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER_LEN);
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, local: None })
    }

    /// Takes the socket in the data directory `dir`, too, which has to be locked. Without it
    /// commands go through the port.
    #[must_use]
    pub fn with_local(mut self, dir: &Path) -> Self {
        match LocalSocket::bind(dir) {
            Ok(socket) => self.local = Some(socket),
            Err(error) => tracing::warn!(%error, "the API has no socket in the data directory"),
        }
        self
    }

    /// Has a service answer requests from now on. Has to be called within a tokio runtime.
    pub fn serve<S: Service>(self, service: Arc<S>) -> Result<Server<S>, ServeError> {
        let address = self.address;
        let fail = |error| ServeError::Listen(address, error);
        let shared = Arc::new(Shared::new(service));
        let port = tokio::net::TcpListener::from_std(self.listener).map_err(fail)?;
        let mut doors = vec![Door::Port(port)];
        let mut file = None;
        if let Some(local) = self.local {
            let listener = tokio::net::UnixListener::from_std(local.listener).map_err(fail)?;
            doors.push(Door::Local(listener));
            file = Some(local.file);
        }
        let open = |door| tokio::spawn(attend(door, shared.clone()));
        let doors = doors.into_iter().map(open).collect();
        let sweep = tokio::spawn(sweep(shared.connections.clone()));
        Ok(Server { shared, address, doors, sweep, _file: file })
    }
}

/// A server that answers requests.
pub struct Server<S> {
    shared: Arc<Shared<S>>,
    address: SocketAddr,
    doors: Vec<JoinHandle<()>>,
    sweep: JoinHandle<()>,
    _file: Option<SocketFile>,
}

impl<S: Service> Server<S> {
    /// The address of the port, with the number that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What answers.
    pub fn service(&self) -> &S {
        &self.shared.service
    }

    /// The connections that requests come on.
    pub fn connections(&self) -> Connections {
        self.shared.connections.clone()
    }

    /// Accepts nothing more, ends the streams, and waits a little for requests under way.
    pub async fn shutdown(self) {
        self.shared.service.stop();
        self.shared.stopping.send_replace(true);
        for door in self.doors {
            if let Err(error) = door.await {
                tracing::error!(%error, "the server of the API failed");
            }
        }
        let connections = &self.shared.connections;
        let (port, local) = (connections.port.all_free(), connections.local.all_free());
        if tokio::time::timeout(DRAIN_WAIT, future::join(port, local)).await.is_err() {
            tracing::debug!("requests were still under way when the server stopped");
        }
        self.sweep.abort();
    }
}

/// The connections of both doors.
#[derive(Clone)]
pub struct Connections {
    /// Of the port.
    pub port: Arc<Places>,
    /// Of the socket.
    pub local: Arc<Places>,
    /// Why the server closed some.
    pub closings: Arc<Closings>,
}

impl Default for Connections {
    /// Places that are all free.
    fn default() -> Self {
        let closings = Arc::new(Closings::default());
        let places = |most: usize| Arc::new(Places::new(most as u32, closings.clone()));
        Self {
            port: places(HTTP_CONNECTIONS_MAX),
            local: places(HTTP_LOCAL_CONNECTIONS_MAX),
            closings: closings.clone(),
        }
    }
}

/// What all connections share.
struct Shared<S> {
    service: Arc<S>,
    /// Turns true when the server stops.
    stopping: watch::Sender<bool>,
    connections: Connections,
    /// Places for telling that there is no place.
    turned_away: Arc<Semaphore>,
}

impl<S: Service> Shared<S> {
    fn new(service: Arc<S>) -> Self {
        Self {
            service,
            stopping: watch::Sender::new(false),
            connections: Connections::default(),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
        }
    }

    /// Returns once the server stops.
    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // Fails only without a sender, and that is here.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A listener.
enum Door {
    Port(tokio::net::TcpListener),
    Local(tokio::net::UnixListener),
}

/// A connection that was accepted.
enum Caller {
    Port(TcpStream),
    Local(UnixStream),
}

impl Door {
    async fn accept(&self) -> std::io::Result<Caller> {
        Ok(match self {
            Self::Port(listener) => Caller::Port(listener.accept().await?.0),
            Self::Local(listener) => Caller::Local(listener.accept().await?.0),
        })
    }
}

/// Accepts connections until the server stops.
async fn attend<V: Service>(door: Door, shared: Arc<Shared<V>>) {
    let mut stopped = pin!(shared.stopped());
    loop {
        match future::select(stopped.as_mut(), pin!(door.accept())).await {
            Either::Left(_) => break,
            Either::Right((Ok(Caller::Port(stream)), _)) => {
                // Small answers must not wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                admit(stream, &shared.connections.port, &shared, false).await;
            }
            Either::Right((Ok(Caller::Local(stream)), _)) => {
                if is_operator(&stream) {
                    admit(stream, &shared.connections.local, &shared, true).await;
                }
            }
            Either::Right((Err(error), _)) => {
                // Most often too many open files; the next try may do.
                tracing::debug!(%error, "cannot accept a connection to the API");
                shared.connections.closings.add(Reason::NotAccepted);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends connections that are over a time limit, and says why connections were ended.
async fn sweep(connections: Connections) {
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        let now = Instant::now();
        connections.port.sweep(now);
        connections.local.sweep(now);
        connections.closings.tell(now);
    }
}

/// Serves a connection if there is a place for it.
async fn admit<S, V>(stream: S, places: &Arc<Places>, shared: &Arc<Shared<V>>, local: bool)
where
    V: Service,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match places.take().await {
        Some(taken) => {
            tokio::spawn(serve(stream, taken, shared.clone(), local));
        }
        None => turn_away(stream, shared),
    }
}

/// Says that there is no place, unless too many are being told already.
fn turn_away<S, V>(mut stream: S, shared: &Shared<V>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = shared.turned_away.clone().try_acquire_owned() else { return };
    tokio::spawn(async move {
        let text = no_place();
        let told = tokio::time::timeout(TURN_AWAY_WAIT, stream.write_all(text.as_bytes())).await;
        if matches!(told, Ok(Ok(()))) {
            linger(stream).await;
        }
        drop(permit);
    });
}

/// Serves one connection until it ends or is told to.
async fn serve<S, V>(stream: S, taken: Taken, shared: Arc<Shared<V>>, local: bool)
where
    V: Service,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    {
        let place = taken.place();
        let conversation = pin!(converse(stream, place.clone(), shared, local));
        let told_to_end = pin!(place.told_to_end());
        future::select(conversation, told_to_end).await;
    }
    // The place is free only once the connection is closed.
    drop(taken);
}

async fn converse<S, V>(stream: S, place: Arc<Place>, shared: Arc<Shared<V>>, local: bool)
where
    V: Service,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Watched::new(stream, place.clone()));
    let service = {
        let (place, shared) = (place.clone(), shared.clone());
        service_fn(move |request: hyper::Request<Incoming>| {
            respond(shared.clone(), Connection::begin(place.clone()), local, request)
        })
    };
    let mut connection = http1::Builder::new()
        .max_headers(HTTP_HEADERS_MAX)
        .max_buf_size(HTTP_HEAD_LEN_MAX)
        // The sweep knows whether the head is late or the client has nothing to ask.
        .header_read_timeout(None::<Duration>)
        .serve_connection(stream, service);
    let ended = match future::select(&mut connection, pin!(shared.stopped())).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), connection)) => {
            Pin::new(&mut *connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(%error, "a connection to the API ended early");
    }
    if *shared.stopping.borrow() {
        return;
    }
    place.parts(Instant::now());
    let watched = connection.into_parts().io.into_inner();
    // What begins HTTP/2 is not answered at all.
    let is_other_version = ended.is_err_and(|error| error.is_parse_version_h2());
    let rejected = watched.rejected().or(is_other_version.then_some(400));
    let mut stream = watched.into_inner();
    if let Some(status) = rejected {
        let text = no_request(status);
        // Whoever does not take it does not want to know.
        let _ = tokio::time::timeout(TURN_AWAY_WAIT, stream.write_all(text.as_bytes())).await;
    }
    future::select(pin!(linger(stream)), pin!(shared.stopped())).await;
}

/// Answers a request, whatever it is.
async fn respond<V: Service>(
    shared: Arc<Shared<V>>,
    connection: Connection,
    local: bool,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Held<impl AnswerBody>>, Infallible> {
    let mut request = Request::new(request, connection.clone(), local);
    let mut response = shared.service.answer(&mut request).await;
    if !request.take_in_rest().await {
        set(&mut response, header::CONNECTION, "close");
    }
    Ok(response.map(|body| Held { body, _connection: connection }))
}

/// What hyper can send.
trait AnswerBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin {}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> AnswerBody for B {}

/// The body of an answer, which is under way until hyper has taken the last of it.
struct Held<B> {
    body: B,
    _connection: Connection,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::http::api::PROBLEM_TYPE;
    use crate::http::{Api, ApiToken};

    fn setup() -> (Arc<Api>, Arc<Shared<Api>>) {
        let api = crate::http::api(ApiToken::for_test(), Arc::default());
        (api.clone(), Arc::new(Shared::new(api)))
    }

    /// What the API of a node that does not run answers to these bytes, on a connection of its own.
    async fn says(shared: &Arc<Shared<Api>>, bytes: &[u8]) -> String {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        admit(ours, &shared.connections.port, shared, false).await;
        theirs.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn request(line: &str) -> Vec<u8> {
        format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn every_form_of_a_target_is_answered() {
        let (_, shared) = setup();
        for (line, status, code) in [
            ("GET /health", 200, ""),
            ("HEAD /health", 200, ""),
            ("GET http://x:1/health", 200, ""),
            ("GET /health?a=b", 400, "INVALID"),
            ("GET /ready", 503, "STARTING"),
            ("GET http://x", 503, "STARTING"),
            ("OPTIONS *", 405, "METHOD_NOT_ALLOWED"),
            ("CONNECT a:1", 405, "METHOD_NOT_ALLOWED"),
            ("CONNECT /health", 405, "METHOD_NOT_ALLOWED"),
            ("GET a:1", 400, "INVALID"),
            ("GET health", 400, "INVALID"),
            ("GET *", 400, "INVALID"),
            ("GET http://", 400, "INVALID"),
            ("GET ?a", 400, "INVALID"),
        ] {
            let answer = says(&shared, &request(line)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            assert!(code.is_empty() || answer.contains(code), "{line}: {answer}");
            let problem = answer.contains(&format!("content-type: {PROBLEM_TYPE}"));
            assert_eq!(problem, !code.is_empty(), "{line}: {answer}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_in_words() {
        let (_, shared) = setup();
        let many = "x: y\r\n".repeat(HTTP_HEADERS_MAX + 1);
        let long = format!("x: {}\r\n", "y".repeat(HTTP_HEAD_LEN_MAX));
        let with = |more: &str| format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
        for (bytes, status, code) in [
            ("GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 400, "INVALID"),
            ("GET /health HTTP/2.0\r\n\r\n".to_owned(), 400, "INVALID"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400, "INVALID"),
            ("\u{16}\u{3}\u{1}\0\u{1}tls".to_owned(), 400, "INVALID"),
            ("no request at all\r\n\r\n".to_owned(), 400, "INVALID"),
            (with("content-length: 1\r\ncontent-length: 2\r\n"), 400, "INVALID"),
            (with("content-length: x\r\n"), 400, "INVALID"),
            (with("a header\r\n"), 400, "INVALID"),
            (with(&many), 431, "HEAD_TOO_LARGE"),
            (with(&long), 431, "HEAD_TOO_LARGE"),
        ] {
            let shown = &bytes[..bytes.len().min(60)];
            let answer = says(&shared, bytes.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
            for part in [PROBLEM_TYPE, code, "connection: close", "x-request-id: ", "nosniff"] {
                assert!(answer.contains(part), "{shown:?} lacks {part}: {answer}");
            }
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer}");
        }
        // Behind a request that is one, too.
        let old = with("connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
        for first in [with(""), old] {
            let answer = says(&shared, format!("{first}no request\r\n\r\n").as_bytes()).await;
            let (_, second) = answer.split_once("HTTP/1.1 400 ").expect(&answer);
            assert!(answer.contains(" 200 OK\r\n") && second.contains(PROBLEM_TYPE), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_node_that_joins_says_so_and_when_to_ask_again() {
        let (api, shared) = setup();
        api.joins();
        let answer = says(&shared, &request("GET /api/v1/status")).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("\"JOINING\"") && answer.contains("retry-after: 1"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_left_of_a_request_is_taken_in_or_the_end_is_announced() {
        let (_, shared) = setup();
        let health = String::from_utf8(request("GET /health")).unwrap();
        let post = |length: usize, more: &str| {
            let body = "x".repeat(length);
            format!(
                "POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{more}\r\n{body}"
            )
        };
        // Little is taken in, and the next request is answered on the same connection.
        let answer = says(&shared, format!("{}{health}", post(100_000, "")).as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("HTTP/1.1 200 "),
            "{answer}"
        );
        // Much is not, but the client is heard to its end.
        let answer = says(&shared, post(2 * 1024 * 1024, "").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        // A body that the client has not sent yet is not asked for.
        let waits = post(0, "").replace("length: 0\r\n", "length: 9\r\nexpect: 100-continue\r\n");
        let answer = says(&shared, waits.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn whoever_finds_no_place_is_told() {
        let (_, shared) = setup();
        let places = Arc::new(Places::new(1, Arc::default()));
        let taken = places.take().await.unwrap();
        let under_way = Connection::begin(taken.place().clone());
        let (ours, mut theirs) = tokio::io::duplex(4 * 1024);
        admit(ours, &places, &shared, false).await;
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"BUSY\""), "{answer}");
        drop(under_way);

        let (ours, mut theirs) = tokio::io::duplex(4 * 1024);
        let admitted = future::join(admit(ours, &places, &shared, false), async { drop(taken) });
        admitted.await;
        theirs.write_all(&request("GET /health")).await.unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_is_let_go() {
        let (_, shared) = setup();
        let (port, closings) = (&shared.connections.port, &shared.connections.closings);
        let (ours, mut theirs) = tokio::io::duplex(64);
        admit(ours, port, &shared, false).await;
        theirs.write_all(&request("GET /ready")).await.unwrap();
        // The only other task is the one that answers.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        port.sweep(Instant::now() + Duration::from_secs(60));
        port.all_free().await;
        assert_eq!(closings.count(Reason::AnswerUnread), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_ends_idle_connections() {
        let (_, shared) = setup();
        let (ours, mut theirs) = tokio::io::duplex(4 * 1024);
        admit(ours, &shared.connections.port, &shared, false).await;
        shared.stopping.send_replace(true);
        shared.connections.port.all_free().await;
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }
}
