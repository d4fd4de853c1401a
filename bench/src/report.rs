//! The comparison, for people: a part of docs/performance.md, and its plots.

use crate::error::BenchError;
use crate::results::{Results, RunResults};
use crate::rows::{Goal, NOT_MEASURED, ROWS, RUNS, Row, Run};
use crate::server::{Profile, ServerKind, settings_of};
use crate::system::System::{self, Etcd, Nats, NatsCore, Redis, RedisPubSub, Syncline, SynclineBase, SynclineTls};
use std::cmp::Ordering;
use std::fmt::{Display, Write};
use std::fs;
use std::path::Path;
use syncline_load::plot::{Bar, Group, bars};
use syncline_load::stats::{Better, Summary};
use syncline_load::table::{figure, markdown, replace_between};

/// The lines between which the comparison stands.
const BEGIN: &str = "<!-- comparison: written by ./bench/compare -->";
const END: &str = "<!-- comparison: end -->";

/// Processors that other programs took: no machine is quite idle.
const MIN_REPORTED_SHARE: f64 = 0.2;

/// Settings that are not those of most rows, and which rows have them.
const OTHER_PROFILES: &[(Profile, &str)] = &[
    (Profile::Memory, "not durable"),
    (Profile::Tls, "TLS"),
    (Profile::Stalled, "a watcher stalls"),
    (Profile::Filled, "1 million keys"),
];

/// The plots: a name, a title, and the runs whose names begin like this.
const PLOTS: &[(&str, &str, &[&str])] = &[
    ("get", "GET: more is better", &["get-"]),
    ("swap", "Compare-and-swap: more is better", &["put-"]),
    ("paced", "Fan-out at 100 puts/s, until the value is there: less is better", &["paced-"]),
    ("unpaced", "Fan-out, 64 puts in flight, deliveries: more is better", &["unpaced-"]),
    ("memory", "Memory, and starting with a million keys: less is better", &["idle", "start"]),
];

/// The figures of one system in one row.
struct Cell {
    system: System,
    summary: Summary,
    /// Processors that were busy: the server's, the load generator's.
    busy: Option<(f64, f64)>,
    skipped: f64,
}

/// What a row has of each system, in the order of the row's run.
fn cells(row: &Row, results: &Results) -> Vec<Cell> {
    let Some(done) = results.runs.get(row.run) else { return Vec::new() };
    let summary_of = |system: System, name: &str| {
        let samples = done.samples.iter().filter(|sample| sample.system == system.id());
        let figures: Vec<f64> = samples.filter_map(|sample| Some(sample.figures.get(name)?.0)).collect();
        Summary::of(&figures)
    };
    let cell = |system| {
        let summary = summary_of(system, row.figure)?;
        let of = |name| summary_of(system, name).map(|summary| summary.median);
        let busy = of("server_processors").zip(of("load_processors"));
        Some(Cell { system, summary, busy, skipped: of("skipped").unwrap_or(0.0) })
    };
    System::ALL.into_iter().filter_map(cell).collect()
}

fn median(cells: &[Cell], system: System) -> Option<f64> {
    cells.iter().find(|cell| cell.system == system).map(|cell| cell.summary.median)
}

/// The best of what Redis does.
fn best_of_redis(cells: &[Cell], better: Better) -> Option<f64> {
    better.best([Redis, RedisPubSub].into_iter().filter_map(|system| median(cells, system)))
}

/// What a system was to reach: for people, and whether it has. `None`: with what it is compared was not measured.
fn judged(row: &Row, cells: &[Cell], found: f64, goal: Goal) -> Option<(String, String, bool)> {
    let (of, bound, text) = match goal {
        Goal::Redis(times) => {
            let redis = best_of_redis(cells, row.better)?;
            (redis, redis * times, format!("Redis × {}", figure(times)))
        }
        Goal::Plain(times) => {
            let plain = median(cells, Syncline)?;
            (plain, plain * times, format!("plain × {}", figure(times)))
        }
        Goal::Figure(bound) => return Some((String::new(), row.unit.show(bound), row.better.reaches(found, bound))),
    };
    Some((format!("{} ×", figure(found / of)), text, row.better.reaches(found, bound)))
}

/// Where Syncline stands: a line for each target.
fn standing(results: &Results) -> String {
    let mut lines = Vec::new();
    for row in ROWS {
        let cells = cells(row, results);
        for &(system, goal) in row.goals {
            let Some(found) = median(&cells, system) else { continue };
            let Some((ratio, text, is_met)) = judged(row, &cells, found, goal) else { continue };
            let redis = best_of_redis(&cells, row.better).map_or(String::new(), |redis| row.unit.show(redis));
            let who = if system == Syncline { String::new() } else { format!(" ({})", system.label()) };
            let verdict = if is_met { "met" } else { "**missed**" };
            lines.push(vec![
                format!("{}{who}", row.title),
                row.unit.show(found),
                redis,
                ratio,
                text,
                verdict.to_owned(),
            ]);
        }
    }
    markdown(&["work", "Syncline", "Redis", "ratio", "target", ""], &lines)
}

/// Everything that was measured.
fn everything(results: &Results) -> String {
    let mut lines = Vec::new();
    for row in ROWS {
        let cells = cells(row, results);
        let is_contest = cells.len() > 1;
        let best = row.better.best(cells.iter().map(|cell| cell.summary.median));
        let redis = best_of_redis(&cells, row.better);
        for (place, cell) in cells.iter().enumerate() {
            let Summary { median, least, most, .. } = cell.summary;
            let shown = row.unit.show(median);
            let ratio = |of: Option<f64>| of.filter(|_| median.is_finite()).map(|of| figure(median / of));
            let skipped = if cell.skipped > 0.0 { " (some overtaken)" } else { "" };
            lines.push(vec![
                if place == 0 { row.title.to_owned() } else { String::new() },
                format!("{}{skipped}", cell.system.label()),
                if is_contest && Some(median) == best { format!("**{shown}**") } else { shown },
                format!("{} – {}", row.unit.show(least), row.unit.show(most)),
                ratio(redis).unwrap_or_default(),
                cell.busy.map_or(String::new(), |(server, load)| format!("{server:.1} + {load:.1}")),
            ]);
        }
    }
    markdown(&["work", "who", "median", "least – most", "to Redis", "processors: server + load"], &lines)
}

/// The part of the file.
fn part(results: &Results) -> String {
    let mut text = format!(
        "\nMeasured on {} ({}), server and load generator on the same machine. Medians of {}, of {} each, in which the\n\
         servers take turns (A B C D D C B A …). [bench/README.md](../bench/README.md) says how, and where they differ.\n",
        results.machine,
        range(results.runs.values().map(|done| done.date.clone())),
        plural(&range(results.runs.values().map(rounds)), "round"),
        plural(&range(results.runs.values().map(|done| done.seconds)), "second"),
    );
    if let Some(others) = others(results) {
        let _ = write!(
            text,
            "\n**The machine was not idle:** programs that have nothing to do with this took {others:.1} of its processors (median).\n"
        );
    }
    text.push('\n');
    for kind in ServerKind::ALL {
        let version = results.versions.get(kind.name()).map_or("not measured", String::as_str);
        let _ = writeln!(text, "- {} {version}: {}", kind.label(), settings_of(kind, Profile::Durable));
    }
    text.push_str("\nSettings of some rows, where they are others:\n\n");
    for (profile, rows) in OTHER_PROFILES {
        for kind in ServerKind::ALL {
            let takes_part =
                |run: &Run| run.systems.iter().any(|who| who.kind() == kind && who.profile(run.profile) == *profile);
            if RUNS.iter().any(takes_part) && settings_of(kind, *profile) != settings_of(kind, Profile::Durable) {
                let _ = writeln!(text, "- {rows}: {} {}", kind.label(), settings_of(kind, *profile));
            }
        }
    }
    text.push_str("\n### Where Syncline stands\n\n");
    text.push_str("The ratio is to the better one of Redis' two ways, where there are two; for times and memory, less is better.\n\n");
    text.push_str(&standing(results));
    text.push_str("\n### Everything that was measured\n\n");
    text.push_str(&everything(results));
    text.push('\n');
    for (name, title, runs) in PLOTS {
        if plot(title, runs, results).is_some() {
            let _ = writeln!(text, "![{title}](performance/{name}.svg)");
        }
    }
    text.push_str("\nNot in the table:\n\n");
    for reason in NOT_MEASURED {
        let _ = writeln!(text, "- {reason}");
    }
    text
}

/// How often each did a run.
fn rounds(done: &RunResults) -> usize {
    done.samples.iter().filter(|sample| sample.system == Syncline.id()).count()
}

/// The least and the most of several, or the one that they all are.
fn range<T: PartialOrd + Display>(all: impl Iterator<Item = T>) -> String {
    let mut all: Vec<T> = all.collect();
    all.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    match (all.first(), all.last()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "nothing".to_owned(),
    }
}

fn plural(number: &str, noun: &str) -> String {
    format!("{number} {noun}{}", if number == "1" { "" } else { "s" })
}

/// What other programs took of the processors, where that is worth a word.
fn others(results: &Results) -> Option<f64> {
    let samples = results.runs.values().flat_map(|done| &done.samples);
    let shares: Vec<_> = samples.filter_map(|sample| Some(sample.figures.get("other_processors")?.0)).collect();
    Summary::of(&shares).map(|summary| summary.median).filter(|share| *share >= MIN_REPORTED_SHARE)
}

/// The colour of a system: one for each server.
fn color(system: System) -> &'static str {
    match system {
        Syncline => "#1b6ca8",
        SynclineBase => "#5a9bcb",
        SynclineTls => "#94bfe0",
        Redis => "#c0392b",
        RedisPubSub => "#dd8a80",
        Nats => "#2e8b57",
        NatsCore => "#7dbf9a",
        Etcd => "#8e6bb0",
    }
}

fn plot(title: &str, runs: &[&str], results: &Results) -> Option<String> {
    let wanted = ROWS.iter().filter(|row| runs.iter().any(|run| row.run.starts_with(run)));
    let group = |row: &Row| {
        let bar = |cell: &Cell| Bar {
            label: cell.system.label().to_owned(),
            value: cell.summary.median,
            shown: row.unit.show(cell.summary.median),
            color: color(cell.system),
        };
        Group { title: row.title.to_owned(), bars: cells(row, results).iter().map(bar).collect() }
    };
    let groups: Vec<_> = wanted.map(group).filter(|group| !group.bars.is_empty()).collect();
    (!groups.is_empty()).then(|| bars(title, &groups))
}

/// Prints where Syncline stands, and everything.
pub(crate) fn shown(results: &Results) -> String {
    format!("{}\n{}", standing(results), everything(results))
}

/// Writes the part of docs/performance.md, and the plots.
pub(crate) fn write(results: &Results, root: &Path) -> Result<(), BenchError> {
    let file = root.join("docs/performance.md");
    let text =
        fs::read_to_string(&file).map_err(|error| BenchError::from(error).context(file.display().to_string()))?;
    let whole = replace_between(&text, BEGIN, END, &part(results));
    fs::write(&file, whole.map_err(|error| BenchError::Usage(format!("{}: {error}", file.display())))?)?;
    let plots = root.join("docs/performance");
    fs::create_dir_all(&plots)?;
    for (name, title, runs) in PLOTS {
        if let Some(svg) = plot(title, runs, results) {
            fs::write(plots.join(format!("{name}.svg")), svg)?;
        }
    }
    Ok(())
}

/// The names of all runs, with who does them.
pub(crate) fn listed() -> String {
    let line = |run: &Run| {
        let systems: Vec<_> = run.systems.iter().map(|system| system.id()).collect();
        format!("{:16} {}\n", run.id, systems.join(" "))
    };
    RUNS.iter().map(line).collect()
}
