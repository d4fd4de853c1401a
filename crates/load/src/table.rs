//! Figures for people, tables in Markdown, and replacing a part of a file.

use thiserror::Error;

/// Returns a number for people, with three significant digits.
pub fn figure(number: f64) -> String {
    match number.abs() {
        size if size.is_infinite() => "∞".to_owned(),
        size if size >= 999_500.0 => format!("{}M", digits(number / 1e6)),
        size if size >= 9_995.0 => format!("{}k", digits(number / 1e3)),
        _ => digits(number),
    }
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A rate per second.
    PerSecond,
    /// A time in microseconds.
    Micros,
    /// A time in seconds.
    Seconds,
    /// An amount of memory in bytes.
    Bytes,
    /// A ratio.
    Times,
}

impl Unit {
    /// Returns a number with its unit, for people. A number that is not finite is shown as `never`.
    pub fn show(self, number: f64) -> String {
        if !number.is_finite() {
            return "never".to_owned();
        }
        let size = number.abs();
        match self {
            Self::PerSecond => format!("{}/s", figure(number)),
            Self::Micros if size >= 999.5 => format!("{} ms", figure(number / 1e3)),
            Self::Micros => format!("{} µs", figure(number)),
            // Less than a tenth of a second would have fewer than three digits.
            Self::Seconds if size < 0.0995 => Self::Micros.show(number * 1e6),
            Self::Seconds => format!("{} s", figure(number)),
            Self::Bytes if size >= 999_500.0 => format!("{} MB", figure(number / 1e6)),
            Self::Bytes if size >= 999.5 => format!("{} kB", figure(number / 1e3)),
            Self::Bytes => format!("{} B", figure(number)),
            Self::Times => format!("{} ×", figure(number)),
        }
    }
}

/// Returns a number with three significant digits.
fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0005 => 2,
        _ => 0,
    };
    let text = format!("{number:.decimals$}");
    let Some((whole, fraction)) = text.split_once('.') else { return thousands(&text) };
    match fraction.trim_end_matches('0') {
        "" => thousands(whole),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// Separates thousands with commas.
fn thousands(whole: &str) -> String {
    let (sign, number) = whole.strip_prefix('-').map_or(("", whole), |number| ("-", number));
    let mut text = String::from(sign);
    for (place, digit) in number.chars().enumerate() {
        if place > 0 && (number.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a table in Markdown. A `|` in a cell is escaped.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let mut line = String::from("|");
        for cell in cells {
            line.push(' ');
            line.push_str(&cell.replace('|', "\\|"));
            line.push_str(" |");
        }
        line.push('\n');
        line
    };
    let mut text = line(&mut head.iter().map(|&cell| cell.to_owned()));
    text.push('|');
    for _ in head {
        text.push_str("---|");
    }
    text.push('\n');
    for row in rows {
        text.push_str(&line(&mut row.iter().cloned()));
    }
    text
}

/// A file does not have exactly one part between two lines.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "expected one line `{begin}` and behind it one line `{end}`, found another number or order of them; add the two lines"
)]
pub struct NoPart {
    begin: String,
    end: String,
}

/// Returns the text with everything between two lines replaced.
///
/// # Errors
/// [`NoPart`] if the text does not hold each of the lines exactly once, in this order.
pub fn replace_between(text: &str, begin: &str, end: &str, part: &str) -> Result<String, NoPart> {
    let no_part = || NoPart { begin: begin.to_owned(), end: end.to_owned() };
    let count = |line| text.lines().filter(|found| *found == line).count();
    if count(begin) != 1 || count(end) != 1 {
        return Err(no_part());
    }
    let mut whole = String::new();
    let mut lines = text.lines();
    for line in lines.by_ref() {
        whole.push_str(line);
        whole.push('\n');
        if line == begin {
            break;
        }
    }
    whole.push_str(part.trim_end());
    whole.push('\n');
    let mut rest = lines.skip_while(|line| *line != end).peekable();
    if rest.peek().is_none() {
        return Err(no_part());
    }
    for line in rest {
        whole.push_str(line);
        whole.push('\n');
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.123, "0.12"),
            (1.0, "1"),
            (1.234, "1.23"),
            (9.996, "10"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (2345.6, "2,346"),
            (9_994.0, "9,994"),
            (9_999.0, "10k"),
            (12_345.0, "12.3k"),
            (881_000.0, "881k"),
            (999_600.0, "1M"),
            (4_400_000.0, "4.4M"),
            (-2345.6, "-2,346"),
            (f64::INFINITY, "∞"),
        ];
        for (number, expected) in cases {
            assert_eq!(figure(number), expected, "{number}");
        }
    }

    #[test]
    fn figures_with_their_units() {
        let cases = [
            (Unit::PerSecond, 92_100.0, "92.1k/s"),
            (Unit::Micros, 950.0, "950 µs"),
            (Unit::Micros, 1_400.0, "1.4 ms"),
            (Unit::Seconds, 0.95, "0.95 s"),
            (Unit::Seconds, 0.002_56, "2.56 ms"),
            (Unit::Seconds, f64::INFINITY, "never"),
            (Unit::Bytes, 208.0, "208 B"),
            (Unit::Bytes, 10_000.0, "10 kB"),
            (Unit::Bytes, 67_108_864.0, "67.1 MB"),
            (Unit::Times, 1.25, "1.25 ×"),
        ];
        for (unit, number, expected) in cases {
            assert_eq!(unit.show(number), expected, "{number}");
        }
    }

    #[test]
    fn a_table_in_markdown() {
        let rows = [vec!["a|b".to_owned(), "1".to_owned()], vec!["c".to_owned(), "2".to_owned()]];
        assert_eq!(markdown(&["work", "n"], &rows), "| work | n |\n|---|---|\n| a\\|b | 1 |\n| c | 2 |\n");
    }

    #[test]
    fn only_the_part_between_the_lines_is_replaced() {
        let text = "before\n<!-- a -->\nold\nold\n<!-- b -->\nafter\n";
        let found = replace_between(text, "<!-- a -->", "<!-- b -->", "new\n\n").unwrap();
        assert_eq!(found, "before\n<!-- a -->\nnew\n<!-- b -->\nafter\n");
        assert_eq!(replace_between(&found, "<!-- a -->", "<!-- b -->", "new").unwrap(), found);
    }

    #[test]
    fn a_file_without_the_lines_is_refused() {
        for text in ["", "<!-- a -->\n", "<!-- b -->\n<!-- a -->\n", "<!-- a -->\n<!-- a -->\n<!-- b -->\n"] {
            let error = replace_between(text, "<!-- a -->", "<!-- b -->", "new").unwrap_err();
            assert!(error.to_string().contains("`<!-- a -->`"), "{error}");
        }
    }
}
