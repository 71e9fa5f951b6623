//! `/api/v1/events`: what happens, as a stream or as a list; and publishing events of applications.
//!
//! Flow: listen at the log of events, which hands over what was missed and calls back for what is
//! new -> a bounded queue for each client -> server-sent events. A client that takes events more
//! slowly than they come is disconnected when its queue is full; it comes back with the number of
//! the last event that it saw and gets the rest from the log.
//!
//! Invariants:
//! 1. A client gets every event once, in order, or is told to load everything anew (`resync`).
//! 2. The log's callback never waits.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use warp::http::{StatusCode, header};
use warp::reply::Reply;
use warp::sse;

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, json, ok};
use super::server::Connection;
use crate::core::event::Event;
use crate::core::gossip;
use crate::node::Node;
use crate::types::limits::NOTES_PER_SECOND;

/// Clients that listen at once. Each holds a connection for long, so it is far below the bound of
/// connections.
pub const LISTENERS_MAX: usize = 64;
/// Events that wait for one client.
const QUEUE_MAX: usize = 1_024;
/// Events in one list.
const LIST_MAX: usize = 500;
/// How often a stream shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which events a client wants.
#[derive(Clone, Default)]
struct Topics(Vec<String>);

impl Topics {
    fn of(request: &Request) -> Result<Self, ApiError> {
        let text = request.query("topic")?.unwrap_or_default();
        Ok(Self(text.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect()))
    }

    fn wants(&self, event: &Event) -> bool {
        self.0.is_empty() || self.0.iter().any(|topic| topic == event.body.topic())
    }
}

/// Answers with a stream, or with a list if JSON is asked for.
pub fn events(app: &App, request: &Request) -> Answer {
    let topics = Topics::of(request)?;
    let since = request.query_number("since")?;
    let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        let log = &app.node.env().events;
        let mut items = log.after(since.unwrap_or(0), LIST_MAX);
        items.retain(|event| topics.wants(event));
        return ok(&api::Events { schema: SCHEMA, items });
    }
    // What a reconnecting client says itself counts more than the address it was given once.
    let resumed = request.header("last-event-id")?.map(str::parse);
    let resumed = resumed
        .transpose()
        .map_err(|_| ApiError::invalid("last-event-id", "expected the number of an event"))?;
    let permit = app.listeners.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        ApiError::busy(format!("{LISTENERS_MAX} clients listen to events already"))
            .hint("close one of them, or ask for a list with `Accept: application/json`")
    })?;
    let connection = request.connection.clone();
    let client = Client { since: resumed.or(since), topics, connection, permit };
    let alive = sse::keep_alive().interval(HEARTBEAT).stream(stream_to(app, client));
    Ok(sse::reply(alive).into_response())
}

/// Publishes an event of an application.
pub async fn publish(app: &App, request: &mut Request) -> Answer {
    let api::EventPublish { name, data } = request.json().await?;
    let data = data.to_string();
    let request = gossip::Request::Publish { name, data };
    match app.node.env().directory.gossip.ask(request).await? {
        gossip::Reply::Published { id, held_by, others } => {
            let at_risk = others && held_by < 2;
            let id = id.to_string();
            json(StatusCode::CREATED, &api::EventPublished { schema: SCHEMA, id, held_by, at_risk })
        }
        gossip::Reply::Invalid { field, reason } => Err(ApiError::invalid(field, reason)),
        gossip::Reply::Busy => Err(ApiError::busy(format!(
            "this node publishes up to {NOTES_PER_SECOND} events a second"
        ))
        .hint("publish more slowly, or several things in one event")),
    }
}

/// A client that listens.
struct Client {
    /// Last event that it has seen; none if it wants new ones only.
    since: Option<u64>,
    topics: Topics,
    connection: Connection,
    permit: OwnedSemaphorePermit,
}

/// The queue to one client; gone once the client was given up.
type Queue = Arc<Mutex<Option<mpsc::Sender<Event>>>>;

fn lock(queue: &Queue) -> MutexGuard<'_, Option<mpsc::Sender<Event>>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stream_to(
    app: &App,
    client: Client,
) -> impl Stream<Item = Result<sse::Event, Infallible>> + Send + Sync + 'static {
    let Client { since, topics, connection, permit } = client;
    let (sender, mut fresh) = mpsc::channel(QUEUE_MAX);
    let (tell, told) = oneshot::channel();
    // Dropped with the stream, which tells the other side that the client is gone.
    let (alive, gone) = oneshot::channel::<Infallible>();
    let attendant = Attendant {
        node: app.node.clone(),
        since,
        topics: topics.clone(),
        queue: Arc::new(Mutex::new(Some(sender))),
        connection,
    };
    tokio::spawn(attendant.attend(tell, gone, app.stopping.subscribe()));
    let missed = stream::once(told).flat_map(move |told| {
        let Missed { events, resync } = told.unwrap_or_default();
        let wanted = events.into_iter().filter(|event| topics.wants(event)).collect::<Vec<_>>();
        stream::iter(resync.then(resync_event).into_iter().chain(wanted.into_iter().map(encode)))
    });
    let fresh = stream::poll_fn(move |context| {
        let _ = (&alive, &permit);
        fresh.poll_recv(context)
    });
    missed.chain(fresh.map(encode)).map(Ok)
}

/// What happened before a client came.
#[derive(Default)]
struct Missed {
    events: Vec<Event>,
    /// True if some of it is not known any more.
    resync: bool,
}

/// Listens for one client as long as it is there.
struct Attendant {
    node: Arc<Node>,
    since: Option<u64>,
    topics: Topics,
    queue: Queue,
    connection: Connection,
}

impl Attendant {
    async fn attend(
        self,
        tell: oneshot::Sender<Missed>,
        gone: oneshot::Receiver<Infallible>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let log = &self.node.env().events;
        let last = log.last();
        let since = self.since.unwrap_or(last);
        // A number that was not given out yet is from before a restart of the node.
        let (since, restarted) = if since > last { (0, true) } else { (since, false) };
        let (queue, topics, connection) =
            (self.queue.clone(), self.topics.clone(), self.connection.clone());
        let sink = move |event: Event| {
            let mut queue = lock(&queue);
            let Some(sender) = queue.as_ref().filter(|_| topics.wants(&event)) else { return };
            if sender.try_send(event).is_err() {
                *queue = None;
                // A client that reads nothing would not notice the end of the stream either.
                connection.hang_up();
            }
        };
        let (listening, events, gap) = log.listen(since, Arc::new(sink));
        // The client may be gone already.
        let _ = tell.send(Missed { events, resync: gap || restarted });
        let stop = std::pin::pin!(stopping.wait_for(|stopping| *stopping));
        future::select(gone, stop).await;
        drop(listening);
        *lock(&self.queue) = None;
    }
}

fn encode(event: Event) -> sse::Event {
    let json = serde_json::to_value(&event).unwrap_or_default();
    let kind = json.get("type").and_then(|kind| kind.as_str()).unwrap_or("event").to_owned();
    sse::Event::default().id(event.seq.to_string()).event(kind).data(json.to_string())
}

/// Tells a client that it has missed something that is not known any more.
fn resync_event() -> sse::Event {
    sse::Event::default().event("resync").data(format!("{{\"schema\":{SCHEMA}}}"))
}
