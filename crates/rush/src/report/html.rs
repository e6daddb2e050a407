//! The report as one self-contained page, without scripts, fonts or images from elsewhere. All external text is escaped.

use super::{
    PhaseReport, RushReport, RushVerdict, TimelinePoint, svg,
    table::{error_counts, format_seconds, millis, thousands, total_counts},
};
use crate::check::CheckState;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// Escapes text for HTML content and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

pub fn page(report: &RushReport) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let title = format!("Onrush rush: {}", report.scenario);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>",
        escape(&title)
    );
    head(report, &mut page);
    tiles(report, &mut page);
    for phase in &report.phases {
        section(phase, &mut page);
    }
    checks(report, &mut page);
    about(report, &mut page);
    page.push_str("</main></body></html>\n");
    page
}

fn head(report: &RushReport, page: &mut String) {
    let (class, verdict) = match &report.verdict {
        RushVerdict::Clean => ("good", "clean".to_owned()),
        RushVerdict::Violations(violations) => ("bad", format!("{} violated", violations.len())),
    };
    let _ =
        write!(page, "<header><h1>Rush: {}</h1><p class=\"verdict {class}\">{}</p></header>", escape(&report.scenario), escape(&verdict));
    let shoppers = if report.members > 0 { format!("{} shoppers over ", thousands(report.members as u64)) } else { String::new() };
    let connections = thousands(report.concurrency as u64);
    let at = report.started_at.to_string();
    let at = at.get(..16).map_or_else(|| at.clone(), |minute| format!("{} UTC", minute.replace('T', " ")));
    let _ = write!(page, "<p class=\"sub\">{shoppers}{connections} connections · {} · {at}</p>", escape(&report.url));
}

fn tiles(report: &RushReport, page: &mut String) {
    page.push_str("<dl class=\"tiles\">");
    for (name, count) in total_counts(report) {
        let bad = count != "0" && matches!(name, "over-issued" | "oversold" | "lost acknowledgements" | "server errors");
        let class = if bad { " class=\"bad\"" } else { "" };
        let _ = write!(page, "<div{class}><dt>{name}</dt><dd>{count}</dd></div>");
    }
    page.push_str("</dl>");
}

fn section(phase: &PhaseReport, page: &mut String) {
    let _ = write!(page, "<section><h2>{}</h2><dl class=\"line\">", escape(&phase.name));
    let latency = phase.latency;
    let mut facts = vec![
        ("turns", format!("{} in {} s", thousands(phase.iterations), format_seconds(phase.seconds))),
        ("throughput", format!("{} /s", thousands(phase.per_second.round() as u64))),
        ("p50", format!("{} ms", millis(latency.p50_us))),
        ("p99", format!("{} ms", millis(latency.p99_us))),
        ("p99.9", format!("{} ms", millis(latency.p999_us))),
        ("max", format!("{} ms", millis(latency.max_us))),
    ];
    if let Some(ratio) = phase.of_baseline {
        facts.insert(2, ("of the floor", format!("{:.0} %", ratio * 100.0)));
    }
    if let Some(cpu) = phase.client_cpu_seconds {
        facts.push(("client CPU", format!("{cpu:.2} s")));
    }
    if let Some(cpu) = phase.server_cpu_seconds {
        let each = phase.server_cpu_us_each.map(|each| format!(" ({each:.0} µs each)")).unwrap_or_default();
        facts.push(("server CPU", format!("{cpu:.2} s{each}")));
    }
    if let Some(peak) = phase.server_peak_rss_mib {
        facts.push(("server peak memory", format!("{peak:.0} MiB")));
    }
    for (name, value) in facts {
        let _ = write!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    page.push_str("</dl>");
    plots(phase, page);
    ends(phase, page);
    page.push_str("</section>");
}

fn plots(phase: &PhaseReport, page: &mut String) {
    let x_max = phase.timeline.last().map_or(0.0, |point| point.at_seconds);
    let boxes = |pick: fn(&TimelinePoint) -> f64| {
        let begins = std::iter::once(0.0).chain(phase.timeline.iter().map(|point| point.at_seconds));
        svg::PlotShape::Boxes(begins.zip(&phase.timeline).map(|(begin, point)| (begin, point.at_seconds, pick(point))).collect())
    };
    // A slice without answers has no latency, so the line has a gap there. Zero or an interpolated value would be wrong.
    let lines = |pick: fn(&TimelinePoint) -> u64| {
        let stretches = phase.timeline.split(|point| point.per_second <= 0.0).filter(|stretch| !stretch.is_empty());
        let line = |stretch: &[TimelinePoint]| stretch.iter().map(|point| (point.at_seconds, pick(point) as f64 / 1_000.0)).collect();
        svg::PlotShape::Lines(stretches.map(line).collect())
    };
    let throughput = [
        svg::Series { class: "all", shape: boxes(|point| point.per_second) },
        svg::Series { class: "won", shape: boxes(|point| point.won_per_second) },
    ];
    let over = [
        svg::Series { class: "p99", shape: lines(|point| point.p99_us) },
        svg::Series { class: "p50", shape: lines(|point| point.p50_us) },
    ];
    // Equal distance between percentiles, because the tail would vanish on a linear axis.
    let tail: Vec<(f64, u64)> = phase.percentiles.iter().copied().filter(|(percentile, _)| *percentile >= 50.0).collect();
    let points = tail.iter().enumerate().map(|(index, (_, us))| (index as f64, *us as f64 / 1_000.0)).collect();
    let labelled = |percentile: f64| [50.0, 90.0, 99.0, 99.9, 99.99].contains(&percentile) || percentile >= 100.0;
    let ticks = tail
        .iter()
        .enumerate()
        .filter(|(_, (percentile, _))| labelled(*percentile))
        .map(|(index, (percentile, _))| (index as f64, if *percentile >= 100.0 { "max".to_owned() } else { format!("{percentile}") }));
    let ticks: Vec<svg::Tick> = ticks.collect();
    let seconds = svg::seconds(x_max);
    page.push_str("<div class=\"plots\">");
    figure(
        "answers a second",
        &[("all", "all"), ("won", "won")],
        &svg::plot("answers a second over time", &throughput, &seconds, x_max),
        page,
    );
    figure("latency over time, ms", &[("p99", "p99"), ("p50", "p50")], &svg::plot("latency over time", &over, &seconds, x_max), page);
    let last = (tail.len().max(2) - 1) as f64;
    let curve = [svg::Series { class: "p99", shape: svg::PlotShape::Lines(vec![points]) }];
    figure("latency by percentile, ms", &[], &svg::plot("latency by percentile", &curve, &ticks, last), page);
    page.push_str("</div>");
}

fn figure(title: &str, legend: &[(&str, &str)], plot: &str, page: &mut String) {
    let _ = write!(page, "<figure><figcaption>{title}");
    for (class, name) in legend {
        let _ = write!(page, " <span class=\"key {class}\">{name}</span>");
    }
    let _ = write!(page, "</figcaption>{plot}</figure>");
}

fn ends(phase: &PhaseReport, page: &mut String) {
    page.push_str("<div class=\"scroll\"><table><thead><tr><th>operation</th><th>ended as</th><th class=\"n\">turns</th><th class=\"n\">share</th></tr></thead><tbody>");
    for operation in &phase.operations {
        let all: u64 = operation.ends.iter().map(|(_, count)| count).sum();
        for (label, count) in &operation.ends {
            let share = *count as f64 * 100.0 / all.max(1) as f64;
            let (name, label) = (escape(&operation.name), escape(label));
            let count = thousands(*count);
            let _ = write!(page, "<tr><td>{name}</td><td>{label}</td><td class=\"n\">{count}</td><td class=\"n\">{share:.1} %</td></tr>");
        }
    }
    page.push_str("</tbody></table></div>");
    for window in &phase.windows {
        let (iterations, rate) = (thousands(window.iterations), thousands(window.per_second.round() as u64));
        let _ = write!(page, "<p class=\"sub\">{}: {iterations} in {:.3} s = {rate} a second</p>", escape(&window.name), window.seconds);
    }
    if let Some(trouble) = error_counts(phase) {
        let _ = write!(page, "<p class=\"sub\">On the way: {}</p>", escape(&trouble));
    }
    if let Some(repeated) = phase.repeated {
        let (count, p50, max) = (thousands(repeated.count), millis(repeated.p50_us), millis(repeated.max_us));
        let _ = write!(page, "<p class=\"sub\">{count} turns were repeated; with all waits p50 {p50} ms, max {max} ms</p>");
    }
}

fn checks(report: &RushReport, page: &mut String) {
    page.push_str("<section><h2>Checks</h2><ul class=\"checks\">");
    for check in &report.checks {
        let (class, word, text) = match &check.state {
            CheckState::Held { evidence } => ("good", "held", evidence),
            CheckState::Violated { detail } => ("bad", "violated", detail),
            CheckState::Skipped { reason } => ("none", "skipped", reason),
        };
        let _ = write!(
            page,
            "<li><span class=\"mark {class}\">{word}</span><div><strong>{}</strong><span>{}</span></div></li>",
            escape(&check.rule),
            escape(text)
        );
    }
    page.push_str("</ul></section>");
}

fn about(report: &RushReport, page: &mut String) {
    page.push_str("<section><h2>Setting</h2><dl class=\"facts\">");
    let mut facts = vec![("machine".to_owned(), report.machine.line()), ("load threads".to_owned(), report.threads.to_string())];
    facts.extend(report.profile.iter().map(|profile| ("build".to_owned(), profile.line())));
    facts.extend(report.facts.iter().map(|fact| (fact.name.clone(), fact.value.clone())));
    if let Some(baseline) = report.baseline_per_second {
        facts.push(("floor".to_owned(), format!("{} /s from a bare server, same client", thousands(baseline.round() as u64))));
    }
    facts.push(("durability".to_owned(), report.durability.clone()));
    for (name, value) in facts {
        let _ = write!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), escape(&value));
    }
    page.push_str("</dl>");
    for note in &report.notes {
        let _ = write!(page, "<p class=\"sub\">{}</p>", escape(note));
    }
    page.push_str("</section>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_text_never_becomes_markup() {
        assert_eq!(escape(r#"<script>"a"&'b'</script>"#), "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;&lt;/script&gt;");
        assert_eq!(escape("원 ₩1,000"), "원 ₩1,000");
    }
}
