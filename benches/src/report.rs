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
    theirs: Option<f64>,
}

/// Figures of ours and of what they are compared with.
pub struct Table {
    peer: String,
    rows: Vec<Row>,
}

impl Table {
    /// No figures yet; `peer` is what ours are compared with.
    pub fn new(peer: &str) -> Self {
        Self { peer: peer.to_owned(), rows: Vec::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, name: &str, ours: f64, theirs: Option<f64>) {
        self.rows.push(Row { name: name.to_owned(), ours, theirs });
    }

    /// The figures as text.
    pub fn render(&self) -> String {
        // Writing to a string can't fail.
        let mut text = String::new();
        let _ = writeln!(text, "{:<44} {:>10} {:>14} {:>7}", "median", "bzzz", self.peer, "ratio");
        for Row { name, ours, theirs } in &self.rows {
            let digits = if *ours < 10.0 { 2 } else { 1 };
            let _ = match theirs {
                Some(theirs) => writeln!(
                    text,
                    "{name:<44} {ours:>10.digits$} {theirs:>14.digits$} {:>7.2}",
                    ours / theirs
                ),
                None => writeln!(text, "{name:<44} {ours:>10.digits$} {:>14} {:>7}", "-", "-"),
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
        let mut table = Table::new("etcd 3");
        table.add("1 client: p50, us", 100.0, Some(80.0));
        table.add("fsyncs", 0.125, None);
        let text = table.render();
        let rows: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "1 client: p50, us                                 100.0           80.0    1.25",
            "fsyncs                                             0.12              -       -",
        ];
        assert_eq!(rows, expected);
    }
}
