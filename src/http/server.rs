//! The listener of the API: who may connect, how many, and for how long.
//!
//! The socket is bound before the node does anything, so that a taken port costs nothing; requests
//! are answered once the node runs.
//!
//! Invariants:
//! 1. Only loopback addresses are bound: the API has no TLS.
//! 2. No more than `HTTP_CONNECTIONS_MAX` connections are open; further ones wait in the kernel.
//! 3. A connection that sends no whole head in time is closed, also between two requests.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use warp::Filter;
use warp::http::{HeaderMap, Method};
use warp::reply::Response;

use super::request::Request;
use super::router::{App, answer};
use crate::types::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_TIMEOUT_MS};

/// Bytes of a request's head.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long requests under way may take after the server was told to stop.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long the server waits after it could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// A way to end a connection from within a request.
#[derive(Clone, Debug, Default)]
pub struct Connection(Arc<Notify>);

impl Connection {
    /// Ends the connection without another word.
    pub fn hang_up(&self) {
        self.0.notify_one();
    }
}

/// A socket that is bound and not served yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes the socket.
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
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer requests. Has to be called within a tokio runtime.
    pub fn serve(self, app: Arc<App>) -> Result<Running, ServeError> {
        let address = self.address;
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|error| ServeError::Listen(address, error))?;
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(accept_all(listener, app.clone(), stop.clone()));
        Ok(Running { app, stop, task })
    }
}

/// A server that answers requests.
pub struct Running {
    app: Arc<App>,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Running {
    /// Accepts nothing more, ends the streams, and waits a little for requests under way.
    pub async fn shutdown(self) {
        self.app.stopping.send_replace(true);
        self.stop.notify_one();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server of the API failed");
        }
    }
}

async fn accept_all(listener: tokio::net::TcpListener, app: Arc<App>, stop: Arc<Notify>) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut stopped = std::pin::pin!(stop.notified());
    loop {
        let next = std::pin::pin!(accept(&listener, &places));
        match future::select(stopped.as_mut(), next).await {
            Either::Left(_) => break,
            Either::Right((Ok((stream, place)), _)) => {
                tokio::spawn(serve(stream, app.clone(), graceful.watcher(), place));
            }
            Either::Right((Err(error), _)) => {
                // Most often too many open files; the next try may do.
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_WAIT, graceful.shutdown()).await.is_err() {
        tracing::debug!("requests were still under way when the server stopped");
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn serve(stream: TcpStream, app: Arc<App>, watcher: Watcher, place: OwnedSemaphorePermit) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let connection = Connection::default();
    let hung_up = connection.0.clone();
    let service = TowerToHyperService::new(warp::service(filter(app, connection)));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HTTP_HEAD_TIMEOUT_MS))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX);
    let served = builder
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(|r| service.call(r)));
    let served = std::pin::pin!(watcher.watch(served));
    let hung_up = std::pin::pin!(hung_up.notified());
    if let Either::Left((Err(error), _)) = future::select(served, hung_up).await {
        tracing::debug!(%error, "a connection to the API ended early");
    }
    drop(place);
}

/// One filter for every request: paths and methods are matched in `router`, in one place, and
/// every way out of it is an answer.
fn filter(
    app: Arc<App>,
    connection: Connection,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method: Method, path: warp::path::FullPath, query, headers: HeaderMap, body| {
            let path = path.as_str().to_owned();
            let request = Request::new(method, path, query, headers, connection.clone(), body);
            answer(app.clone(), request)
        })
}
