//! Three nodes that say much, under load: in turn whoever reads what one of them says goes away,
//! stops reading, and has no room. What becomes of writes, of actors and of `/health`.

use std::io::{PipeReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::Fallible;
use crate::health::{self, Health};
use crate::load::sum_of;
use crate::nodes::{Nodes, Outcomes, add, count};

const NODES: usize = 3;
/// Clients that write; they are spread over the nodes.
const WRITERS: usize = 12;
/// How long each part is measured.
const LENGTH: Duration = Duration::from_secs(10);
/// How long a client waits after a write that was refused.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads what a node says, until it is told not to.
struct Reader {
    reads: Arc<AtomicBool>,
    stays: Arc<AtomicBool>,
}

impl Reader {
    fn start(mut pipe: PipeReader) -> Self {
        let (reads, stays) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let reader = Self { reads: reads.clone(), stays: stays.clone() };
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while stays.load(Ordering::Relaxed) {
                if !reads.load(Ordering::Relaxed) {
                    std::thread::sleep(PAUSE);
                } else if !pipe.read(&mut bytes).is_ok_and(|len| len > 0) {
                    return;
                }
            }
        });
        reader
    }

    /// Leaves the pipe open and reads no more.
    fn stop(&self) {
        self.reads.store(false, Ordering::Relaxed);
    }

    /// Closes the pipe, at the latest when the node says something next.
    fn leave(&self) {
        self.stays.store(false, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What one part came to.
struct Part {
    written: Outcomes,
    health: Health,
    restarts: f64,
    dropped: f64,
}

impl Part {
    fn print(&self, name: &str) {
        let Self { written, health, restarts, dropped } = self;
        let health = health.text();
        println!(
            "logs: {name}: writes {written:?}; {health}; {restarts} restarts of actors; {dropped} \
             lines dropped"
        );
    }
}

/// Writes a value again and again until `end`; what it was answered.
async fn write_on(nodes: Rc<Nodes>, part: usize, writer: usize, end: Instant) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let (mut open, mut version, mut number) = (None, 0, 0);
    while Instant::now() < end {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => match nodes.connect(writer % NODES).await {
                Ok(connection) => connection,
                Err(error) => {
                    count(&mut outcomes, &Err(error));
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let key = format!("monitoring/logs/{part}-{writer}-{number}");
        let answer = connection.write(&key, version, "a value").await;
        count(&mut outcomes, &answer);
        match answer {
            Ok((200..300, written)) => {
                version = written["version"].as_u64().unwrap_or_default();
                open = Some(connection);
            }
            refused => {
                // Whether it was written may not be known, so the next one is another.
                (version, number) = (0, number + 1);
                open = refused.is_ok().then_some(connection);
                sleep(PAUSE).await;
            }
        }
    }
    outcomes
}

/// Restarts of actors on all nodes, and lines that one of them has dropped.
async fn counts(nodes: &Nodes, node: usize) -> Fallible<(f64, f64)> {
    let mut restarts = 0.0;
    for node in 0..NODES {
        restarts += sum_of(&nodes.metrics(node).await?, &["bzzz_actor_restarts_total"]);
    }
    let dropped = sum_of(&nodes.metrics(node).await?, &["bzzz_log_lines_dropped_total"]);
    Ok((restarts, dropped))
}

/// Measures for a while, above all `node`.
async fn measure(nodes: &Rc<Nodes>, part: usize, node: usize) -> Fallible<Part> {
    let before = counts(nodes, node).await?;
    let end = Instant::now() + LENGTH;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| spawn_local(write_on(nodes.clone(), part, writer, end)))
        .collect();
    let health = health::watch(&nodes.api(node), end).await;
    let mut written = Outcomes::new();
    for writer in writers {
        add(&mut written, writer.await?);
    }
    let after = counts(nodes, node).await?;
    Ok(Part { written, health, restarts: after.0 - before.0, dropped: after.1 - before.1 })
}

async fn measure_all(nodes: &Rc<Nodes>, readers: &[Reader; 2]) -> Fallible<f64> {
    for node in 0..NODES {
        let part = measure(nodes, node, node).await?;
        part.print(&format!("node {node}, all is read"));
    }
    let mut restarts = 0.0;
    for (node, name) in ["the reader is gone", "the reader stops", "no room"].iter().enumerate() {
        match readers.get(node) {
            Some(reader) if node == 0 => reader.leave(),
            Some(reader) => reader.stop(),
            None => {
                let full = std::fs::File::options().write(true).open("/dev/full")?;
                nodes.kill(node);
                nodes.start_saying(node, &[], full.into())?;
                nodes.wait_writable(node).await?;
            }
        }
        let part = measure(nodes, NODES + node, node).await?;
        part.print(&format!("node {node}, {name}"));
        restarts += part.restarts;
    }
    Ok(restarts)
}

/// Measures all parts; an error if an actor was restarted for it, or a node does not answer.
pub async fn run(program: &Path) -> Fallible<()> {
    let nodes = Rc::new(Nodes::new(program, NODES, &["--log-level", "trace"])?);
    let (gone, first) = std::io::pipe()?;
    let (stopped, second) = std::io::pipe()?;
    let readers = [Reader::start(gone), Reader::start(stopped)];
    nodes.form_saying(vec![first.into(), second.into(), Stdio::null()]).await?;
    let restarts = LocalSet::new().run_until(measure_all(&nodes, &readers)).await?;
    if restarts > 0.0 {
        return Err(format!("{restarts} restarts of actors for want of a reader").into());
    }
    Ok(())
}
