//! A closed loop: each client sends its next write when the one before is acknowledged.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::Fallible;

/// Bytes of a value.
pub const VALUE_LEN: usize = 1_024;
/// How long a load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a change of leaders may take.
const NEXT_TERM_LIMIT: Duration = Duration::from_secs(30);

/// One client's connection.
pub trait Writer: 'static {
    /// Writes the next value of this client. Returns the term under which it was acknowledged.
    fn write(&mut self) -> impl Future<Output = Fallible<u64>>;
}

/// A cluster that takes writes.
pub trait Target {
    /// A client's connection.
    type Writer: Writer;

    /// Connects the client with this number; clients are spread over the nodes.
    fn connect(&self, client: usize) -> impl Future<Output = Fallible<Self::Writer>>;
}

/// What a load came to.
#[derive(Clone)]
pub struct Measured {
    /// Writes acknowledged a second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50_us: f64,
    /// All but a hundredth took no longer.
    pub p99_us: f64,
}

/// Measures a load.
pub async fn load<T: Target>(target: &T, clients: usize, length: Duration) -> Fallible<Measured> {
    let mut writers = Vec::new();
    for client in 0..clients {
        writers.push(target.connect(client).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = writers
        .into_iter()
        .map(|mut writer| {
            local.spawn_local(async move {
                let mut times = Vec::new();
                loop {
                    let sent = Instant::now();
                    writer.write().await.map_err(|error| error.to_string())?;
                    let now = Instant::now();
                    if now >= end {
                        return Ok::<_, String>(times);
                    }
                    if sent >= begin {
                        times.push(now.duration_since(sent).as_secs_f64() * 1e6);
                    }
                }
            })
        })
        .collect();
    local.await;
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let per_second = times.len() as f64 / length.as_secs_f64();
    Ok(Measured { per_second, p50_us: at(0.5), p99_us: at(0.99) })
}

/// Milliseconds from `since` until a write is acknowledged under a higher term than `term`. Writes
/// that fail meanwhile are tried again.
pub async fn until_next_term<T: Target>(
    target: &T,
    client: usize,
    since: Instant,
    term: u64,
) -> Fallible<f64> {
    let mut open = None;
    while since.elapsed() < NEXT_TERM_LIMIT {
        let mut writer = match open.take() {
            Some(writer) => writer,
            None => target.connect(client).await?,
        };
        match writer.write().await {
            Ok(now) if now > term => return Ok(since.elapsed().as_secs_f64() * 1e3),
            Ok(_) => open = Some(writer),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    Err("no write was acknowledged under another leader in time".into())
}
