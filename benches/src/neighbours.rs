//! What neighbours do to a node that open connections and then do nothing: seconds to join and to
//! come back beside connections on which nothing is said, milliseconds of `/health` beside clients
//! that never read or never ask. Whatever the node closes is opened again.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Fallible;
use crate::health;
use crate::nodes::Nodes;
use crate::report::median;

/// Nodes that are there from the beginning.
const FOUNDERS: usize = 2;
/// Nodes that join beside the silent connections.
const NEWCOMERS: usize = 3;
/// Silent connections to each port of each founder.
const SILENT: usize = 160;
/// Clients of each kind beside which `/health` is measured.
const CLIENTS: usize = 256;
/// Bytes that a client that never reads has room for.
const UNREAD_ROOM: u32 = 4_096;
/// How long neighbours have until all of them are connected.
const SETTLE: Duration = Duration::from_secs(3);
/// How long `/health` is measured: longer than a node waits for any of them.
const LENGTH: Duration = Duration::from_secs(15);
/// How long a neighbour waits until it connects again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a neighbour does.
#[derive(Clone, Copy)]
enum Manner {
    /// It says nothing.
    Silent,
    /// It asks and asks, and takes no answer.
    Unread,
}

/// Neighbours, until this is dropped.
struct Neighbours(Vec<JoinHandle<()>>);

impl Neighbours {
    fn open(manner: Manner, count: usize, address: &str) -> Self {
        let tasks = (0..count).map(|_| tokio::spawn(bother(manner, address.to_owned())));
        Self(tasks.collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn bother(manner: Manner, address: String) {
    loop {
        // However a connection ends, the next one follows.
        let _ = match manner {
            Manner::Silent => say_nothing(&address).await,
            Manner::Unread => read_nothing(&address).await,
        };
        sleep(PAUSE).await;
    }
}

/// True if something can be tried again once the socket is ready.
fn is_early(result: &io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

async fn say_nothing(address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let mut bytes = [0; 256];
    loop {
        stream.readable().await?;
        let read = stream.try_read(&mut bytes);
        if !is_early(&read) && read? == 0 {
            return Ok(());
        }
    }
}

async fn read_nothing(address: &str) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(UNREAD_ROOM)?;
    let address =
        address.parse().map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let stream = socket.connect(address).await?;
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(64);
    let mut sent = 0;
    loop {
        stream.writable().await?;
        let written = stream.try_write(&request[sent..]);
        if !is_early(&written) {
            sent = (sent + written?) % request.len();
        }
    }
}

/// The middle and the largest of some seconds, as text.
fn seconds(all: &[f64]) -> String {
    let largest = all.iter().copied().fold(0.0, f64::max);
    format!("median {:.2} s, largest {largest:.2} s of {}", median(all.to_vec()), all.len())
}

/// Seconds that each newcomer takes to join, and then to come back after a kill.
async fn come_and_go(nodes: &Nodes, token: &str) -> Fallible<(Vec<f64>, Vec<f64>)> {
    let (mut joined, mut back) = (Vec::new(), Vec::new());
    for node in FOUNDERS..FOUNDERS + NEWCOMERS {
        let began = Instant::now();
        nodes.start(node, &["--join", &nodes.listen(0), "--token-file", token])?;
        nodes.wait_writable(node).await?;
        joined.push(began.elapsed().as_secs_f64());
    }
    for node in FOUNDERS..FOUNDERS + NEWCOMERS {
        nodes.kill(node);
        let began = Instant::now();
        nodes.start(node, &[])?;
        nodes.wait_writable(node).await?;
        back.push(began.elapsed().as_secs_f64());
    }
    Ok((joined, back))
}

async fn measure_silent(nodes: &Nodes) -> Fallible<()> {
    let token = nodes.make_token(NEWCOMERS).await?;
    let token = token.to_str().ok_or("the directory has no name in UTF-8")?;
    let mut neighbours = Vec::new();
    for node in 0..FOUNDERS {
        for address in [nodes.listen(node), nodes.api(node)] {
            neighbours.push(Neighbours::open(Manner::Silent, SILENT, &address));
        }
    }
    sleep(SETTLE).await;
    let (joined, back) = come_and_go(nodes, token).await?;
    println!(
        "neighbours: beside {SILENT} silent connections to each port: join {}; come back {}",
        seconds(&joined),
        seconds(&back)
    );
    Ok(())
}

async fn measure_health(nodes: &Nodes) -> Fallible<()> {
    let address = nodes.api(0);
    for (name, manners) in [
        ("nobody", &[][..]),
        ("clients that never read", &[Manner::Unread][..]),
        ("idle clients", &[Manner::Silent][..]),
        ("clients that never read and as many idle ones", &[Manner::Unread, Manner::Silent][..]),
    ] {
        let open = |manner: &Manner| Neighbours::open(*manner, CLIENTS, &address);
        let neighbours: Vec<Neighbours> = manners.iter().map(open).collect();
        sleep(SETTLE).await;
        let health = health::watch(&address, Instant::now() + LENGTH).await;
        let number = if manners.is_empty() { String::new() } else { format!("{CLIENTS} ") };
        println!("neighbours: beside {number}{name}: {}", health.text());
        drop(neighbours);
    }
    Ok(())
}

/// Measures all of it.
pub async fn run(program: &Path) -> Fallible<()> {
    let nodes = Nodes::new(program, FOUNDERS + NEWCOMERS, &[])?;
    nodes.form(FOUNDERS).await?;
    measure_silent(&nodes).await?;
    measure_health(&nodes).await
}
