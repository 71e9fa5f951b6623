//! A gibibyte between two nodes beside heartbeats: on a connection of its own, and as frames on the connection
//! of the lanes, as it would be without one. Both nodes are in this process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bzzz::adapters::network::Probing;
use bzzz::adapters::{KeyVault, NetworkConfig, P2pNetwork};
use bzzz::ports::bulk::{BulkError, BulkReader, BulkWriter, Read};
use bzzz::ports::{Lane, Network as _, NetworkEvent};
use bzzz::types::PeerId;
use bzzz::types::limits::{BULK_CHUNK_MAX, BULK_STREAMS_PER_PEER_MAX, CONNECTIONS_MAX};
use tokio::runtime::Runtime;

use crate::Fallible;
use crate::report::{Table, median};

const GIBIBYTE: usize = 1 << 30;
/// From one beat to the next.
const PAUSE: Duration = Duration::from_millis(5);
/// How long beats are measured with nothing beside them.
const IDLE: Duration = Duration::from_secs(2);
/// Whoever has not answered until then never will.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    network: Arc<P2pNetwork>,
    peer: PeerId,
    events: Receiver<NetworkEvent>,
}

impl Node {
    fn start(runtime: &Runtime) -> Fallible<Self> {
        let dir = tempfile::tempdir()?;
        let vault = KeyVault::create(&dir.path().join("node.key"))?;
        let config = NetworkConfig {
            cluster_tag: "bench".to_owned(),
            listen: vec!["127.0.0.1:0".parse()?],
            announce: Vec::new(),
            hints: Vec::new(),
            max_connections: CONNECTIONS_MAX,
            mdns: false,
            relay: false,
            probing: Probing::Public,
        };
        let network = P2pNetwork::start(config, &vault, runtime.handle().clone())?;
        let (sender, events) = channel();
        network.attach(Arc::new(move |event| drop(sender.send(event))));
        Ok(Self { peer: network.local_peer(), network, events })
    }
}

struct Two {
    a: Node,
    b: Node,
    _runtime: Runtime,
}

impl Two {
    fn start() -> Fallible<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build()?;
        let (a, b) = (Node::start(&runtime)?, Node::start(&runtime)?);
        let roster = BTreeSet::from([a.peer, b.peer]);
        for node in [&a, &b] {
            node.network.admit(roster.clone());
        }
        a.network.keep(b.peer, b.network.listen_addresses());
        for node in [&a, &b] {
            match node.events.recv_timeout(PATIENCE)? {
                NetworkEvent::Up { .. } => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        Ok(Self { a, b, _runtime: runtime })
    }
}

/// Round trips of beats from one node to the other while `work` is done, in microseconds; and for how long.
fn beside(two: &Two, work: impl FnOnce() -> Fallible<()>) -> Fallible<(Vec<f64>, Duration)> {
    let is_over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let (network, peer, over) = (two.a.network.clone(), two.b.peer, is_over.clone());
    let (answer, answered): (Sender<u64>, Receiver<u64>) = channel();
    let (other, own) = (two.b.network.clone(), two.a.peer);
    two.b.network.attach(Arc::new(move |event| {
        if let NetworkEvent::Frame { lane: Lane::Consensus, bytes, .. } = event {
            // A beat that is lost is one that takes for ever.
            let _ = other.send(own, Lane::Consensus, bytes);
        }
    }));
    two.a.network.attach(Arc::new(move |event| {
        if let NetworkEvent::Frame { lane: Lane::Consensus, bytes, .. } = event
            && let Some((number, _)) = bytes.split_first_chunk()
        {
            // Whoever measures may be gone.
            let _ = answer.send(u64::from_le_bytes(*number));
        }
    }));
    let beats = thread::spawn(move || {
        let mut times = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let (sent, number) = (Instant::now(), times.len() as u64);
            let beat = number.to_le_bytes().repeat(25);
            if network.send(peer, Lane::Consensus, beat).is_err() {
                return Err("a beat was not taken");
            }
            match answered.recv_timeout(PATIENCE) {
                Ok(got) if got == number => times.push(sent.elapsed().as_secs_f64() * 1e6),
                Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err("a beat was lost");
                }
            }
            thread::sleep(PAUSE);
        }
        Ok(times)
    });
    let worked = work();
    let took = begun.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let times = beats.join().map_err(|_| "the beats have panicked")??;
    worked?;
    Ok((times, took))
}

fn write(writer: Box<dyn BulkWriter>, left: usize) {
    if left == 0 {
        return writer.finish(Box::new(|_| {}));
    }
    let next = move |written: Result<Box<dyn BulkWriter>, BulkError>| {
        if let Ok(writer) = written {
            write(writer, left - 1);
        }
    };
    writer.write(vec![7; BULK_CHUNK_MAX], Box::new(next));
}

fn read(reader: Box<dyn BulkReader>, done: Sender<Result<(), BulkError>>) {
    let next = move |got: Result<Read, BulkError>| match got {
        Ok(Read::Chunk(_, reader)) => read(reader, done),
        // Whoever waits may have given up.
        Ok(Read::End) => drop(done.send(Ok(()))),
        Err(why) => drop(done.send(Err(why))),
    };
    reader.read(Box::new(next));
}

fn on_streams(two: &Two, streams: usize) -> Fallible<()> {
    let (done, ended) = channel();
    let chunks = GIBIBYTE / BULK_CHUNK_MAX / streams;
    let serve = done.clone();
    two.b.network.bulk().serve(Arc::new(move |incoming| {
        let stream = incoming.accept();
        stream.writer.finish(Box::new(|_| {}));
        read(stream.reader, serve.clone());
    }));
    for _ in 0..streams {
        let failed = done.clone();
        let then = move |opened: Result<bzzz::ports::bulk::BulkStream, BulkError>| match opened {
            Ok(stream) => {
                write(stream.writer, chunks);
                stream.reader.read(Box::new(|_| {}));
            }
            // Whoever waits may have given up.
            Err(why) => drop(failed.send(Err(why))),
        };
        let at = two.b.network.listen_addresses();
        two.a.network.bulk().open(two.b.peer, at, Vec::new(), Box::new(then));
    }
    for _ in 0..streams {
        ended.recv_timeout(PATIENCE)??;
    }
    Ok(())
}

/// The same as frames, as many at a time as the queue takes.
fn on_lane(two: &Two) -> Fallible<()> {
    let lane = two.a.network.stats();
    let lane = lane.lane(Lane::Bulk);
    let out = || lane.frames_out.load(Ordering::Relaxed);
    let (before, chunks) = (out(), (GIBIBYTE / BULK_CHUNK_MAX) as u64);
    let begun = Instant::now();
    let mut sent = 0;
    while sent < chunks || out() < before + chunks {
        // A few are under way, as with a window.
        if sent < chunks && sent < out() - before + 8 {
            two.a.network.send(two.b.peer, Lane::Bulk, vec![7; BULK_CHUNK_MAX])?;
            sent += 1;
        } else {
            thread::park_timeout(Duration::from_micros(100));
        }
        if begun.elapsed() > PATIENCE {
            return Err("the frames do not arrive".into());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Figures {
    mib_s: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    most: Vec<f64>,
}

impl Figures {
    fn add(&mut self, (mut times, took): (Vec<f64>, Duration)) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
        self.mib_s.push(1_024.0 / took.as_secs_f64());
        self.p50.push(at(0.5).unwrap_or(f64::NAN));
        self.p99.push(at(0.99).unwrap_or(f64::NAN));
        self.most.push(times.last().copied().unwrap_or(f64::NAN));
    }
}

/// Measures, some rounds of all.
pub fn measure(rounds: u8) -> Fallible<Table> {
    let (mut idle, mut lane) = (Figures::default(), Figures::default());
    let mut own = [Figures::default(), Figures::default()];
    for round in 1..=rounds {
        let two = Two::start()?;
        idle.add(beside(&two, || {
            thread::sleep(IDLE);
            Ok(())
        })?);
        for (streams, figures) in [1, BULK_STREAMS_PER_PEER_MAX].into_iter().zip(&mut own) {
            figures.add(beside(&two, || on_streams(&two, streams))?);
        }
        lane.add(beside(&two, || on_lane(&two))?);
        eprintln!("bulk: round {round} of {rounds} done");
    }
    let mut table = Table::new("on a lane");
    for (name, pick) in [("p50", (|f| &f.p50) as fn(&Figures) -> &Vec<f64>), ("p99", |f| &f.p99)] {
        table.add(
            &format!("beat with nothing beside it, {name}, us"),
            median(pick(&idle).clone()),
            None,
        );
    }
    for (streams, figures) in [1, BULK_STREAMS_PER_PEER_MAX].into_iter().zip(&own) {
        let plural = if streams == 1 { "" } else { "s" };
        let mut add = |what: &str, pick: fn(&Figures) -> &Vec<f64>| {
            let middle = |figures: &Figures| median(pick(figures).clone());
            let name = format!("1 GiB, {streams} stream{plural}: {what}");
            table.add(&name, middle(figures), Some(middle(&lane)));
        };
        add("MiB a second", |figures| &figures.mib_s);
        add("beat p50, us", |figures| &figures.p50);
        add("beat p99, us", |figures| &figures.p99);
        add("slowest beat, us", |figures| &figures.most);
    }
    Ok(table)
}
