//! How fast a node says that it works, to somebody who connects for it.

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use tokio::time::{sleep, timeout};

use crate::Fallible;
use crate::connection::Http1;

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Whoever has no answer until then has none.
const LIMIT: Duration = Duration::from_secs(5);

/// What was measured.
pub struct Health {
    /// Questions.
    asked: usize,
    /// Those that were not answered in time, or not with 200.
    failed: usize,
    /// Milliseconds that the others took, in order.
    ms: Vec<f64>,
}

impl Health {
    /// The milliseconds within which this share of the answers came.
    fn within(&self, share: f64) -> f64 {
        let last = self.ms.len().saturating_sub(1);
        let at = (self.ms.len() as f64 * share) as usize;
        self.ms.get(at.min(last)).copied().unwrap_or(f64::NAN)
    }

    /// The figures as text.
    pub fn text(&self) -> String {
        let (p50, p99) = (self.within(0.5), self.within(0.99));
        let Self { asked, failed, .. } = self;
        format!("/health p50 {p50:.1} ms, p99 {p99:.1} ms, {failed} of {asked} without an answer")
    }
}

async fn ask(address: &str) -> Fallible<bool> {
    let request = Request::get("/health").header("host", address).body(Full::default())?;
    let (status, _) = Http1::open(address).await?.send(request).await?;
    Ok(status == 200)
}

/// Asks again and again until `end`, each time over a new connection.
pub async fn watch(address: &str, end: Instant) -> Health {
    let mut health = Health { asked: 0, failed: 0, ms: Vec::new() };
    while Instant::now() < end {
        let began = Instant::now();
        health.asked += 1;
        match timeout(LIMIT, ask(address)).await {
            Ok(Ok(true)) => health.ms.push(began.elapsed().as_secs_f64() * 1e3),
            _ => health.failed += 1,
        }
        sleep(PAUSE).await;
    }
    health.ms.sort_by(f64::total_cmp);
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_answers() {
        let ms = (1..=100_u8).map(f64::from).collect();
        let health = Health { asked: 101, failed: 1, ms };
        let text = "/health p50 51.0 ms, p99 100.0 ms, 1 of 101 without an answer";
        assert_eq!(health.text(), text);
        let none = Health { asked: 1, failed: 1, ms: Vec::new() };
        assert!(none.text().contains("1 of 1"));
    }
}
