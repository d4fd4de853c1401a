//! Bar charts in SVG: groups of figures, each group drawn relative to its own largest.

use std::fmt::Write;

/// One bar of a chart.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What the figure belongs to.
    pub label: String,
    /// The length of the bar, relative to the others of its group. A figure that is not finite has no bar.
    pub value: f64,
    /// The figure, for people.
    pub shown: String,
    /// The colour, in the notation of SVG.
    pub color: &'static str,
}

/// Bars that are compared with each other.
#[derive(Clone, Debug)]
pub struct Group {
    /// What the bars show.
    pub title: String,
    /// The bars, from top to bottom.
    pub bars: Vec<Bar>,
}

const WIDTH: usize = 760;
const LEFT: usize = 210;
/// The length of the longest bar. The figure is drawn behind it.
const LONGEST: f64 = 430.0;
const BAR: usize = 16;
const STEP: usize = 20;
const HEAD: usize = 48;
const TITLE: usize = 26;
const GAP: usize = 12;

/// Returns a picture of groups of bars, under a title. The background is white, so that it is readable on dark pages.
pub fn bars(title: &str, groups: &[Group]) -> String {
    let height = HEAD + groups.iter().map(|group| TITLE + group.bars.len() * STEP + GAP).sum::<usize>();
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"#
    );
    let _ = writeln!(svg, r##"<rect width="{WIDTH}" height="{height}" fill="#fff"/>"##);
    let _ = writeln!(svg, r#"<text x="16" y="28" font-size="16" font-weight="bold">{}</text>"#, escaped(title));
    let mut top = HEAD;
    for group in groups {
        let _ = writeln!(
            svg,
            r#"<text x="16" y="{}" font-size="13" font-weight="bold">{}</text>"#,
            top + 14,
            escaped(&group.title)
        );
        top += TITLE;
        let most = group.bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
        for bar in &group.bars {
            let length = if bar.value.is_finite() && most > 0.0 { LONGEST * bar.value.max(0.0) / most } else { 0.0 };
            let base = top + 12;
            let _ =
                writeln!(svg, r#"<text x="{}" y="{base}" text-anchor="end">{}</text>"#, LEFT - 8, escaped(&bar.label));
            let _ = writeln!(
                svg,
                r#"<rect x="{LEFT}" y="{top}" width="{length:.1}" height="{BAR}" fill="{}"/>"#,
                escaped(bar.color)
            );
            let _ = writeln!(
                svg,
                r#"<text x="{:.1}" y="{base}">{}</text>"#,
                LEFT as f64 + length + 6.0,
                escaped(&bar.shown)
            );
            top += STEP;
        }
        top += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_a_group_has_the_longest_bar() {
        let bar = |value: f64| Bar { label: "a<b".into(), value, shown: format!("{value}/s"), color: "#000" };
        let group = |values: &[f64]| Group { title: "GET".into(), bars: values.iter().copied().map(bar).collect() };
        let svg = bars("all & more", &[group(&[10.0, 5.0, f64::INFINITY]), group(&[1.0])]);
        assert_eq!(svg.matches(r#"width="430.0""#).count(), 2, "{svg}");
        assert_eq!(svg.matches(r#"width="215.0""#).count(), 1, "{svg}");
        assert_eq!(svg.matches(r#"width="0.0""#).count(), 1, "{svg}");
        assert!(svg.contains("all &amp; more") && svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
