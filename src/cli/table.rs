//! Tables of text, aligned and safe to print.

/// The text without the control characters that could steer a terminal. Names and errors come
/// from other nodes, so they are not trusted.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A line of a longer text. Unlike a cell of a table it may hold tabs.
pub fn printable_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

/// A table with a head line, columns two spaces apart and no spaces at the ends of lines.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(head)
        .chain(rows.iter().map(|row| std::array::from_fn(|i| printable(&row[i]))))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values below each other, the values aligned.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let line = format!("{name:width$}  {}", printable(value));
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// A count of seconds in the two largest units that say something.
pub fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m{rest}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Microseconds as milliseconds with one decimal, or two where one would show nothing.
pub fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if us < 1_000 { format!("{ms:.2}ms") } else { format!("{ms:.1}ms") }
}

/// An RFC 3339 time in UTC as people write it, without the fraction of the second.
pub fn utc(time: &str) -> String {
    let well_formed = time.is_ascii() && time.len() >= 20 && time.ends_with('Z');
    match well_formed.then(|| (&time[..10], &time[11..19])) {
        Some((date, clock)) => format!("{date} {clock} UTC"),
        None => printable(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_harmless() {
        let rows = [["1", "ä"], ["22", "b\x1b["]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["ID", "NAME"], &rows), "ID  NAME\n1   ä\n22  b?[\n");
        assert_eq!(table(["ID", ""], &[["1".into(), String::new()]]), "ID\n1\n");
        assert_eq!(pairs(&[("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
        assert_eq!([printable("a\tb"), printable_line("\ta\x1b\rb")], ["a?b", "\ta??b"]);
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([0, 61, 3_720, 90_000].map(duration), ["0s", "1m1s", "1h2m", "1d1h"]);
        assert_eq!(milliseconds(230), "0.23ms");
        assert_eq!(milliseconds(2_345), "2.3ms");
        assert_eq!(utc("2025-08-11T16:22:20.007Z"), "2025-08-11 16:22:20 UTC");
        assert_eq!(utc("soon"), "soon");
    }
}
