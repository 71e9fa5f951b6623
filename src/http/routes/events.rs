//! `/api/v1/events`: what happens, as a stream or as a list; and publishing events of applications.
//!
//! Flow: listen at the log of events, which hands over what was missed and calls back for what is
//! new -> a bounded queue for each client -> server-sent events. A client that takes events more
//! slowly than they come is disconnected when its queue is full; it comes back with the number of
//! the last event that it saw and gets the rest from the log. A client that wants few of the events
//! may see none for long, so the stream also names numbers without an event: a *mark* says that
//! everything up to it was looked at.
//!
//! Invariants:
//! 1. A client gets every event once, in order, or is told to load everything anew (`resync`).
//! 2. The log's callback never waits.
//! 3. What a client wants of the events up to a mark comes before the mark.

use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use utoipa::ToSchema;

use futures_util::{Stream, StreamExt, future, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use warp::http::{StatusCode, header};
use warp::reply::{Reply as _, Response};
use warp::sse;

use crate::actors::EventLog;
use crate::core::event::{Event, EventBody};
use crate::core::gossip;
use crate::core::refusal::Refusal;
use crate::http::answer::{Answer, json, ok, set};
use crate::http::api::SCHEMA;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Form, Param, Reply, Route, running};
use crate::http::server::Connection;
use crate::http::{media, schema};
use crate::node::{Node, cluster_time};
use crate::types::Lock;
use crate::types::limits::{
    HTTP_EVENT_LIST_MAX as LIST_MAX, HTTP_EVENT_QUEUE_MAX as QUEUE_MAX, HTTP_LISTENERS_MAX,
    HTTP_LOCAL_LISTENERS_MAX, NOTES_PER_SECOND,
};

const NUMBER: Form = Form::Number { min: 0, max: u64::MAX, default: None };
const SINCE: Param = Param::query("since", "Number of the last event that was seen", NUMBER);
const TOPIC: Param = Param::query(
    "topic",
    "Topics that are wanted, with commas; all of them if none is named",
    Form::Words(|| EventBody::TOPICS.to_vec()),
)
.example("election,member");
const LAST_EVENT: Param =
    Param::header("last-event-id", "As `since`, and counts more; of streams only", NUMBER);

/// `GET /api/v1/events` with `Accept: application/json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// Version of this object.
    pub schema: u32,
    /// Events, oldest first.
    pub items: Vec<Event>,
    /// True if some after the number that was given are not known any more, as from before a restart of
    /// the node: whoever keeps something up to date by events has to load it anew.
    #[serde(default)]
    pub gap: bool,
    /// Everything up to this number was looked at; the next list begins behind it.
    #[serde(default)]
    pub seen: u64,
}

/// Body of `POST /api/v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPublish {
    /// Name of the event, such as `deploy.finished`.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    pub name: String,
    /// What it says; any JSON.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// Answer to `POST /api/v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPublished {
    /// Version of this object.
    pub schema: u32,
    /// Which event it is, in the whole cluster.
    pub id: String,
    /// Nodes that were known to have it when the answer was sent, this one among them.
    pub held_by: usize,
    /// True if no other member could confirm that it has the event: it is told to the others once they
    /// can be reached, unless this node stops before.
    pub at_risk: bool,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/events",
        "events",
        "What happens, as a stream or as a list",
        running!(events),
    )
    .permission("events:read")
    .params(&[&SINCE, &TOPIC, &LAST_EVENT])
    .replies(&[
        Reply::other(200, media::EVENTS, schema::anything, "Events as they happen"),
        Reply::json::<Events>(200, "Up to 500 that have happened, for whoever accepts JSON"),
    ]),
    Route::post(
        "/api/v1/events",
        "event_publish",
        "Publishes an event of an application",
        running!(publish),
    )
    .permission("events:write")
    .body(Body::json::<EventPublish>())
    .replies(&[Reply::json::<EventPublished>(201, "It is told to the others")])
    .refuses(&[&["CLOCK_WRONG"]]),
];

/// How often a stream shows that it is alive, and how far it has come.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which events a client wants.
#[derive(Clone, Default)]
struct Topics(Vec<String>);

impl Topics {
    fn of(call: &Call) -> Self {
        let text = call.text(&TOPIC).into_iter();
        Self(text.flat_map(|text| text.split(',')).map(str::to_owned).collect())
    }

    fn wants(&self, event: &Event) -> bool {
        self.0.is_empty() || self.0.iter().any(|topic| topic == event.body.topic())
    }
}

/// Answers with a stream, or with a list if JSON is asked for.
async fn events(app: &App, call: &mut Call) -> Answer {
    let topics = Topics::of(call);
    let since = call.number(&SINCE);
    if call.accepts(media::JSON) {
        return ok(&list(&app.node.env().events, since, &topics));
    }
    if call.is_head {
        // Nobody listens.
        let mut response = Response::default();
        set(&mut response, header::CONTENT_TYPE, media::EVENTS);
        return Ok(response);
    }
    let (places, most) = match call.is_local {
        true => (&app.local_listeners, HTTP_LOCAL_LISTENERS_MAX),
        false => (&app.listeners, HTTP_LISTENERS_MAX),
    };
    let permit = places.clone().try_acquire_owned().map_err(|_| {
        ApiError::busy(format!("{most} clients listen to events already"))
            .hint("close one of them, or ask for a list with `Accept: application/json`")
    })?;
    // What a reconnecting client says itself counts more than the address it was given once.
    let since = call.number(&LAST_EVENT).or(since);
    let client = Client { since, topics, connection: call.connection.clone(), permit };
    Ok(sse::reply(stream_to(app, client)).into_response())
}

/// The first events after `since` that are wanted. They are taken from the log by pages, so that it
/// is never locked for long; what is told meanwhile is left for the next list.
fn list(log: &EventLog, since: Option<u64>, topics: &Topics) -> Events {
    let last = log.last();
    // A number that was not given out yet is from before a restart of the node. Who names none has
    // seen nothing, and so missed nothing.
    let restarted = since.is_some_and(|since| since > last);
    let mut seen = since.filter(|_| !restarted).unwrap_or(0);
    let (mut items, mut gap, mut is_resumed) = (Vec::new(), restarted, since.is_some());
    while seen < last && items.len() < LIST_MAX {
        let page = log.after(seen, LIST_MAX);
        // Also if there are none: numbers were passed over that no event is kept for.
        gap |= is_resumed && page.first().is_none_or(|first| first.seq > seen + 1);
        is_resumed = true;
        seen = page.last().map_or(last, |newest| newest.seq);
        items.extend(page.into_iter().filter(|event| topics.wants(event)));
    }
    if items.len() > LIST_MAX {
        items.truncate(LIST_MAX);
        seen = items.last().map_or(seen, |event: &Event| event.seq);
    }
    Events { schema: SCHEMA, items, gap, seen }
}

/// How long an event waits for a node that has just started to find out what time it is: longer than what is refused
/// without that, as the others drop an event with a wrong time.
const EVENT_WAIT: Duration = Duration::from_secs(2);

/// Publishes an event of an application.
async fn publish(app: &App, call: &mut Call) -> Answer {
    let EventPublish { name, data } = call.json()?;
    let data = data.to_string();
    let env = app.node.env();
    cluster_time(env, EVENT_WAIT).await;
    match env.directory.gossip.ask(gossip::Request::Publish { name, data }).await? {
        gossip::Reply::Published { id, held_by, others } => {
            let at_risk = others && held_by < 2;
            let id = id.to_string();
            json(StatusCode::CREATED, &EventPublished { schema: SCHEMA, id, held_by, at_risk })
        }
        gossip::Reply::Invalid { field, reason } => Err(ApiError::invalid(field, reason)),
        gossip::Reply::Busy => Err(ApiError::busy(format!(
            "this node publishes up to {NOTES_PER_SECOND} events a second"
        ))
        .hint("publish more slowly, or several things in one event")),
        gossip::Reply::Untimed { ahead_s } => Err(Refusal::ClockWrong { ahead_s }.into()),
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

/// What is sent to a client.
#[derive(Debug)]
enum Item {
    /// An event that it wants.
    Event(Event),
    /// Everything up to this number was looked at.
    Mark(u64),
}

/// The queue to one client.
struct Queue {
    /// None once the client was given up.
    sender: Option<mpsc::Sender<Item>>,
    /// Number of the last event that was looked at, wanted or not.
    seen: u64,
}

impl Queue {
    /// Looks at an event that was told. False if there is no room for it: the client is given up.
    fn tell(&mut self, event: Event, wanted: bool) -> bool {
        self.seen = event.seq;
        let Some(sender) = self.sender.as_ref().filter(|_| wanted) else { return true };
        let kept = sender.try_send(Item::Event(event)).is_ok();
        if !kept {
            self.sender = None;
        }
        kept
    }

    /// Everything up to a number was looked at elsewhere.
    fn passed(&mut self, seq: u64) {
        self.seen = self.seen.max(seq);
    }

    /// Says how far the client is. Where events wait, they will say it, and marks would take their
    /// room.
    fn mark(&self) {
        let idle = |sender: &&mpsc::Sender<Item>| sender.capacity() == sender.max_capacity();
        if let Some(sender) = self.sender.as_ref().filter(idle) {
            // If it does not arrive, the client is gone.
            let _ = sender.try_send(Item::Mark(self.seen));
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.locked()
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
        queue: Arc::new(Mutex::new(Queue { sender: Some(sender), seen: 0 })),
        connection,
    };
    tokio::spawn(attendant.attend(tell, gone, app.stopping.subscribe()));
    let missed = stream::once(told).flat_map(move |told| {
        let Missed { events, resync, seen } = told.unwrap_or_default();
        let wanted = events.into_iter().filter(|event| topics.wants(event)).collect::<Vec<_>>();
        let wanted = wanted.into_iter().map(Item::Event);
        let items = wanted.chain(seen.map(Item::Mark)).map(encode);
        stream::iter(resync.then(resync_event).into_iter().chain(items))
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
    /// Number of the last event that was looked at.
    seen: Option<u64>,
}

/// Listens for one client as long as it is there.
struct Attendant {
    node: Arc<Node>,
    since: Option<u64>,
    topics: Topics,
    queue: Arc<Mutex<Queue>>,
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
            let wanted = topics.wants(&event);
            if !lock(&queue).tell(event, wanted) {
                // A client that reads nothing would not notice the end of the stream either.
                connection.hang_up();
            }
        };
        let (listening, events, gap) = log.listen(since, Arc::new(sink));
        // After a restart numbers were passed over that no event is kept for.
        let gap = gap || (events.is_empty() && since < last);
        // The last one that was missed is the last one that was told.
        let seen = events.last().map_or(last, |event| event.seq);
        lock(&self.queue).passed(seen);
        // The client may be gone already.
        let _ = tell.send(Missed { events, resync: gap || restarted, seen: Some(seen) });
        let stop = std::pin::pin!(stopping.wait_for(|stopping| *stopping));
        let mut end = future::select(gone, stop);
        while tokio::time::timeout(HEARTBEAT, &mut end).await.is_err() {
            lock(&self.queue).mark();
        }
        drop(listening);
        lock(&self.queue).sender = None;
    }
}

fn encode(item: Item) -> sse::Event {
    let event = match item {
        Item::Event(event) => event,
        // Without data it is no event to a client, and the number counts all the same.
        Item::Mark(seq) => return sse::Event::default().comment("so far").id(seq.to_string()),
    };
    let json = serde_json::to_value(&event).unwrap_or_default();
    let kind = json.get("type").and_then(|kind| kind.as_str()).unwrap_or("event").to_owned();
    sse::Event::default().id(event.seq.to_string()).event(kind).data(json.to_string())
}

/// Tells a client that it has missed something that is not known any more.
fn resync_event() -> sse::Event {
    sse::Event::default().event("resync").data(format!("{{\"schema\":{SCHEMA}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::EventBody;
    use crate::types::limits::EVENTS_KEPT;
    use crate::types::{MemberId, Wall};

    fn event(seq: u64) -> Event {
        let body = EventBody::PeerUp { member: MemberId(1) };
        Event { seq, at: Wall(0), node: None, body }
    }

    #[test]
    fn a_list_is_as_long_as_there_are_events_that_match() {
        let log = EventLog::default();
        let tell = |body: EventBody| log.tell(Wall(0), None, body);
        for _ in 0..2 * LIST_MAX + 100 {
            tell(EventBody::PeerUp { member: MemberId(1) });
        }
        for term in 1..=3 {
            tell(EventBody::Leader { term, leader: None });
        }
        let seqs = |since: u64, topics: &[&str]| -> Vec<u64> {
            let topics = Topics(topics.iter().map(|topic| (*topic).to_owned()).collect());
            let list = list(&log, Some(since), &topics);
            assert!(!list.gap);
            let seqs: Vec<u64> = list.items.iter().map(|event| event.seq).collect();
            // The next list begins where this one ends, also where it shows none.
            let expected = if seqs.len() == LIST_MAX { seqs[LIST_MAX - 1] } else { log.last() };
            assert_eq!(list.seen, expected);
            seqs
        };
        assert_eq!(seqs(0, &["election"]), [1_101, 1_102, 1_103]);
        assert_eq!(seqs(1_102, &["election"]), [1_103]);
        assert!(seqs(0, &["head"]).is_empty() && seqs(1_103, &[]).is_empty());
        let first: Vec<u64> = (1..=LIST_MAX as u64).collect();
        assert_eq!(seqs(0, &["peer"]), first);
        assert_eq!(seqs(0, &[]), first);
        assert_eq!(seqs(1_000, &[]).len(), 103);
    }

    #[test]
    fn a_list_shows_a_gap_where_the_stream_does() {
        let log = EventLog::of_start(2);
        let first = (2 << 32) + 1;
        let shown = |since: Option<u64>| {
            let list = list(&log, since, &Topics::default());
            (list.gap, list.items.len(), list.seen)
        };
        assert_eq!(shown(Some(7)), (true, 0, first - 1), "nothing has happened since the restart");
        assert_eq!(shown(None), (false, 0, first - 1));
        for _ in 0..2 {
            log.tell(Wall(0), None, EventBody::PeerUp { member: MemberId(1) });
        }
        assert_eq!(shown(Some((1 << 32) + 7)), (true, 2, first + 1), "from the run before");
        assert_eq!(shown(Some(9 << 32)), (true, 2, first + 1), "from a data directory before");
        assert_eq!(shown(None), (false, 2, first + 1));
        assert_eq!(shown(Some(first - 1)), (false, 2, first + 1));
        assert_eq!(shown(Some(first)), (false, 1, first + 1));
        assert_eq!(shown(Some(first + 1)), (false, 0, first + 1));
        for _ in 0..EVENTS_KEPT {
            log.tell(Wall(0), None, EventBody::PeerUp { member: MemberId(1) });
        }
        assert!(shown(Some(first)).0, "it is not kept any more");
        assert!(!shown(Some(first + 1)).0);
    }

    #[test]
    fn marks_say_how_far_a_client_is_and_never_pass_an_event() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut queue = Queue { sender: Some(sender), seen: 0 };
        queue.passed(4);
        queue.passed(3);
        queue.mark();
        queue.mark();
        assert!(matches!(receiver.try_recv(), Ok(Item::Mark(4))));
        assert!(receiver.try_recv().is_err(), "one mark at a time");
        assert!(queue.tell(event(5), false));
        queue.mark();
        assert!(matches!(receiver.try_recv(), Ok(Item::Mark(5))), "also past what nobody wants");
        assert!(queue.tell(event(6), true));
        queue.mark();
        assert!(matches!(receiver.try_recv(), Ok(Item::Event(event)) if event.seq == 6));
        assert!(receiver.try_recv().is_err(), "no mark where an event waits");
        assert!(queue.tell(event(7), true) && queue.tell(event(8), true));
        assert!(!queue.tell(event(9), true), "a client that is too slow is given up");
        assert!(queue.sender.is_none());
        queue.mark();
    }

    #[test]
    fn a_mark_is_a_number_without_an_event() {
        assert_eq!(encode(Item::Mark(7)).to_string(), ":so far\nid:7\n\n");
        let event = encode(Item::Event(event(8))).to_string();
        assert!(event.contains("\ndata:{") && event.ends_with("id:8\n\n"), "{event}");
    }
}
