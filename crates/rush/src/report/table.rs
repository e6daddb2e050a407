//! The report as text for a terminal.

use super::{PhaseReport, RushReport, RushVerdict};
use crate::check::CheckState;
use std::io::{self, Write};

pub fn print(report: &RushReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "rush {}  {}  {}", report.scenario, report.url, report.started_at)?;
    writeln!(out, "{}", report.machine.line())?;
    if let Some(profile) = &report.profile {
        writeln!(out, "{}", profile.line())?;
    }
    let facts: Vec<String> = report.facts.iter().map(|fact| format!("{} {}", fact.name, fact.value)).collect();
    if !facts.is_empty() {
        writeln!(out, "{}", facts.join(", "))?;
    }
    writeln!(out)?;
    phases(report, out)?;
    for phase in &report.phases {
        details(phase, out)?;
    }
    writeln!(out)?;
    totals(report, out)?;
    writeln!(out)?;
    checks(report, out)?;
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(out, "durability: {}", report.durability)?;
    match &report.verdict {
        RushVerdict::Clean => writeln!(out, "verdict: clean"),
        RushVerdict::Violations(violations) => writeln!(out, "verdict: {} VIOLATED", violations.len()),
    }
}

/// Prints columns as wide as their widest cell. The first is left-aligned, the others right-aligned.
fn grid(rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            line.push_str(&if column == 0 { format!("{cell}{padding}") } else { format!("{gap}{padding}{cell}") });
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn phases(report: &RushReport, out: &mut dyn Write) -> io::Result<()> {
    let head = [
        "phase",
        "turns",
        "seconds",
        "per s",
        "of floor",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "client cpu s",
        "server cpu s",
        "µs each",
        "peak MiB",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for phase in &report.phases {
        let latency = phase.latency;
        rows.push(vec![
            phase.name.clone(),
            thousands(phase.iterations),
            format_seconds(phase.seconds),
            thousands(phase.per_second.round() as u64),
            phase.of_baseline.map_or_else(dash, |ratio| format!("{:.0} %", ratio * 100.0)),
            millis(latency.p50_us),
            millis(latency.p99_us),
            millis(latency.p999_us),
            millis(latency.max_us),
            phase.client_cpu_seconds.map_or_else(dash, |cpu| format!("{cpu:.2}")),
            phase.server_cpu_seconds.map_or_else(dash, |cpu| format!("{cpu:.2}")),
            phase.server_cpu_us_each.map_or_else(dash, |cpu| format!("{cpu:.0}")),
            phase.server_peak_rss_mib.map_or_else(dash, |mib| format!("{mib:.0}")),
        ]);
    }
    grid(&rows, out)
}

fn details(phase: &PhaseReport, out: &mut dyn Write) -> io::Result<()> {
    for operation in &phase.operations {
        let ends: Vec<String> = operation.ends.iter().map(|(label, count)| format!("{label} {}", thousands(*count))).collect();
        let latency = if phase.operations.len() > 1 {
            format!("  (p50 {} ms, p99 {} ms)", millis(operation.latency.p50_us), millis(operation.latency.p99_us))
        } else {
            String::new()
        };
        writeln!(out, "  {}: {}{latency}", operation.name, ends.join(", "))?;
    }
    for window in &phase.windows {
        writeln!(
            out,
            "    {}: {} in {:.3} s = {} a second",
            window.name,
            thousands(window.iterations),
            window.seconds,
            thousands(window.per_second.round() as u64)
        )?;
    }
    if let Some(trouble) = error_counts(phase) {
        writeln!(out, "    on the way: {trouble}")?;
    }
    if let Some(repeated) = phase.repeated {
        let count = thousands(repeated.count);
        writeln!(out, "    {count} repeated; with all waits p50 {} ms, max {} ms", millis(repeated.p50_us), millis(repeated.max_us))?;
    }
    Ok(())
}

/// Error counts in words. `None`: there are none.
pub fn error_counts(phase: &PhaseReport) -> Option<String> {
    let found = phase.error_counts;
    let kinds = [
        (found.shed, "shed (503, 429)"),
        (found.unknown, "lost answers"),
        (found.in_progress, "still running"),
        (found.not_sent, "without connection"),
        (found.server_errors, "server errors"),
        (found.follow_ups, "follow-up questions"),
        (found.gave_up, "given up"),
    ];
    let named: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{} {name}", thousands(*count))).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// The main counts of the report, with their names.
pub fn total_counts(report: &RushReport) -> Vec<(&'static str, String)> {
    let totals = &report.totals;
    let some = |count: Option<u64>| count.map(thousands);
    [
        ("issued", some(totals.issued)),
        ("waiting", some(totals.waiting)),
        ("over-issued", some(totals.over_issued)),
        ("paid", some(totals.paid)),
        ("out of stock", some(totals.out_of_stock)),
        ("oversold", some(totals.oversold)),
        ("lost acknowledgements", some(totals.lost_acknowledgements)),
        ("unknown outcomes", Some(thousands(totals.unknown_outcomes))),
        ("server errors", Some(thousands(totals.server_errors))),
        ("shed", Some(thousands(totals.shed))),
        ("claims beside hostile clients", report.claims_ratio.map(|ratio| format!("{:.0} %", ratio * 100.0))),
    ]
    .into_iter()
    .filter_map(|(name, count)| Some((name, count?)))
    .collect()
}

fn totals(report: &RushReport, out: &mut dyn Write) -> io::Result<()> {
    let line: Vec<String> = total_counts(report).into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    writeln!(out, "{}", line.join(" · "))
}

fn checks(report: &RushReport, out: &mut dyn Write) -> io::Result<()> {
    for check in &report.checks {
        let (mark, text) = match &check.state {
            CheckState::Held { evidence } => ("held    ", evidence),
            CheckState::Violated { detail } => ("VIOLATED", detail),
            CheckState::Skipped { reason } => ("skipped ", reason),
        };
        writeln!(out, "{mark}  {}: {text}", check.id)?;
    }
    Ok(())
}

fn dash() -> String {
    "–".to_owned()
}

/// Formats seconds, with more digits below one second.
pub fn format_seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{seconds:.3}") } else { format!("{seconds:.2}") }
}

/// Formats microseconds as milliseconds with about three digits.
pub fn millis(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{:02}", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{}", us / 1_000, us % 1_000 / 100),
        _ => thousands(us / 1_000),
    }
}

/// Formats a count with commas between thousands.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(thousands), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([42, 1_234, 12_345, 123_456, 2_000_000].map(millis), ["0.04", "1.23", "12.3", "123", "2,000"]);
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        grid(&[vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a    bb\nccc   d\n");
    }
}
