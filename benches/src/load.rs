//! A closed loop: each client sends its next request when the one before is answered.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::Fallible;

/// Bytes of a value.
pub const VALUE_LEN: usize = 1_024;
/// How long a load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a change of leaders may take.
const NEXT_TERM_LIMIT: Duration = Duration::from_secs(30);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write a value that consensus orders, on condition that nobody else wrote it meanwhile.
    Head,
    /// Put a content.
    Content,
    /// Publish a decision: signed, encrypted to three roles, and put with its address.
    Decision,
    /// Read the latest decision at an address, decrypted and with its signature checked.
    Read,
}

/// One client's connection.
pub trait Client: 'static {
    /// Does what this client does once. Returns the term under which it was acknowledged; 0 where
    /// the answer does not say.
    fn once(&mut self) -> impl Future<Output = Fallible<u64>>;
}

/// A cluster that clients use.
pub trait Target {
    /// A client's connection.
    type Client: Client;

    /// Connects the client with this number; clients are spread over the nodes.
    fn connect(&self, client: usize, work: Work) -> impl Future<Output = Fallible<Self::Client>>;

    /// What the members have spent since they started, all of them together.
    fn spent(&self) -> impl Future<Output = Fallible<Spent>>;

    /// Members.
    const MEMBERS: usize;
}

/// What members spend on their work.
pub struct Spent {
    /// How often they called fsync.
    pub fsyncs: f64,
    /// Microseconds of processor time.
    pub processor_us: f64,
}

/// What a load came to.
#[derive(Clone)]
pub struct Measured {
    /// Answers a second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50_us: f64,
    /// All but a hundredth took no longer.
    pub p99_us: f64,
    /// How often each member called fsync for each of them.
    pub fsyncs: f64,
    /// Microseconds of processor time that all members together spent on each of them; the clients'
    /// are not in it.
    pub processor_us: f64,
}

/// Requests until `end`: how many, and the microseconds that those took which were sent after `begin`.
async fn requests(
    mut client: impl Client,
    begin: Instant,
    end: Instant,
) -> Result<(usize, Vec<f64>), String> {
    let (mut count, mut times) = (0, Vec::new());
    loop {
        let sent = Instant::now();
        client.once().await.map_err(|error| error.to_string())?;
        count += 1;
        let now = Instant::now();
        if now >= end {
            return Ok((count, times));
        }
        if sent >= begin {
            times.push(now.duration_since(sent).as_secs_f64() * 1e6);
        }
    }
}

/// Measures a load.
pub async fn load<T: Target>(
    target: &T,
    work: Work,
    clients: usize,
    length: Duration,
) -> Fallible<Measured> {
    let mut connected = Vec::new();
    for client in 0..clients {
        connected.push(target.connect(client, work).await?);
    }
    let before = target.spent().await?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = connected
        .into_iter()
        .map(|client| local.spawn_local(requests(client, begin, end)))
        .collect();
    local.await;
    let after = target.spent().await?;
    let (mut count, mut times) = (0, Vec::new());
    for task in tasks {
        let (own, measured) = task.await??;
        count += own;
        times.extend(measured);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    Ok(Measured {
        per_second: times.len() as f64 / length.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        fsyncs: (after.fsyncs - before.fsyncs) / (count * T::MEMBERS) as f64,
        processor_us: (after.processor_us - before.processor_us) / count as f64,
    })
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
            None => target.connect(client, Work::Head).await?,
        };
        match writer.once().await {
            Ok(now) if now > term => return Ok(since.elapsed().as_secs_f64() * 1e3),
            Ok(_) => open = Some(writer),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
    Err("no write was acknowledged under another leader in time".into())
}

/// The sum of all samples of these metrics on a page in the text format of Prometheus.
pub fn sum_of(page: &str, names: &[&str]) -> f64 {
    let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .filter(|(series, _)| {
            names.contains(&series.split_once('{').map_or(*series, |(name, _)| name))
        })
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_named_metrics_are_added_up() {
        let page = "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nab 50\nb 1.5e1\n";
        assert!((sum_of(page, &["a", "b"]) - 20.0).abs() < 1e-9);
    }
}
