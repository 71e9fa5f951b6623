//! The figures, side by side.

use std::fmt::Write as _;

/// The middle of some figures; 0 if there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

struct Row {
    name: String,
    ours: f64,
    theirs: f64,
}

/// Figures of ours and of the peer.
pub struct Report {
    peer: Option<String>,
    rows: Vec<Row>,
}

impl Report {
    /// No figures yet; `peer` is what ours are compared with.
    pub fn new(peer: Option<String>) -> Self {
        Self { peer, rows: Vec::new() }
    }

    /// True if there is something to compare with.
    pub fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Adds a figure; `theirs` counts only if there is a peer.
    pub fn add(&mut self, name: &str, ours: f64, theirs: f64) {
        self.rows.push(Row { name: name.to_owned(), ours, theirs });
    }

    /// The figures as a table.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let peer = self.peer.as_deref().unwrap_or("-");
        // Writing to a string can't fail.
        let _ =
            writeln!(text, "{:<32} {:>10} {:>14} {:>12}", "median", "bzzz", peer, "bzzz / etcd");
        for row in &self.rows {
            let _ = match &self.peer {
                Some(_) => writeln!(
                    text,
                    "{:<32} {:>10.1} {:>14.1} {:>12.2}",
                    row.name,
                    row.ours,
                    row.theirs,
                    row.ours / row.theirs
                ),
                None => {
                    writeln!(text, "{:<32} {:>10.1} {:>14} {:>12}", row.name, row.ours, "-", "-")
                }
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_beside_their_peers() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        let mut report = Report::new(Some("etcd 3".into()));
        report.add("1 client: p50, us", 100.0, 80.0);
        let last = report.render().lines().last().map(str::to_owned);
        let expected = "1 client: p50, us                     100.0           80.0         1.25";
        assert_eq!(last.as_deref(), Some(expected));
    }
}
