//! The report of a rush: a table and a page for people, JSON for programs. It formats counts and neither measures nor checks.

pub mod files;
mod html;
mod svg;
pub mod table;

use crate::{
    check::Check,
    load::{LoadResult, histogram::Histogram, stats::OperationStats},
    system::{BuildProfile, Machine},
};
use contracts::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RushReport {
    pub scenario: String,
    pub started_at: Timestamp,
    pub url: String,
    pub machine: Machine,
    /// `None`: the caller did not state it.
    pub profile: Option<BuildProfile>,
    pub members: usize,
    pub concurrency: usize,
    pub threads: usize,
    /// Facts of the set-up: coupon, quantity, stock, prices.
    pub facts: Vec<Fact>,
    pub phases: Vec<PhaseReport>,
    pub totals: Totals,
    pub checks: Vec<Check>,
    #[serde(flatten)]
    pub verdict: RushVerdict,
    /// Durability of an acknowledged request.
    pub durability: String,
    pub notes: Vec<String>,
    /// Requests per second of a bare server with the same client, measured in the same run.
    #[serde(rename = "floor_per_second")]
    pub baseline_per_second: Option<f64>,
    /// Claims per second beside hostile clients, divided by those of the claims alone. Only the scenario `hostile` measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_ratio: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

impl Fact {
    pub fn new(name: &str, value: impl ToString) -> Self {
        Self { name: name.to_owned(), value: value.to_string() }
    }
}

/// `{"verdict": "clean"}` or `{"verdict": "violations", "violations": [...]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "violations", rename_all = "snake_case")]
pub enum RushVerdict {
    Clean,
    Violations(Vec<String>),
}

impl RushVerdict {
    pub fn of(checks: &[Check]) -> Self {
        let violations: Vec<String> = checks.iter().filter_map(Check::violation).collect();
        if violations.is_empty() { RushVerdict::Clean } else { RushVerdict::Violations(violations) }
    }
    pub fn is_clean(&self) -> bool {
        *self == RushVerdict::Clean
    }
}

/// The main counts of a rush. `None`: the scenario has no such count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub issued: Option<u64>,
    pub waiting: Option<u64>,
    pub over_issued: Option<u64>,
    pub paid: Option<u64>,
    pub out_of_stock: Option<u64>,
    pub oversold: Option<u64>,
    /// Acknowledged claims and orders that were gone or different when read back. `None`: they were not read back.
    pub lost_acknowledgements: Option<u64>,
    /// Claims and orders whose outcome is still unknown at the end.
    pub unknown_outcomes: u64,
    pub server_errors: u64,
    pub shed: u64,
}

/// One load of a scenario, such as all claims.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    pub name: String,
    pub connections: usize,
    /// Iterations that ended, each with one answer or given up (`error_counts.gave_up`).
    #[serde(rename = "turns")]
    pub iterations: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// `per_second` divided by that of the baseline.
    #[serde(rename = "of_floor")]
    pub of_baseline: Option<f64>,
    pub latency: Latency,
    /// Duration of iterations that repeated a request, with all waits.
    pub repeated: Option<Latency>,
    pub operations: Vec<OperationReport>,
    pub windows: Vec<PhaseWindow>,
    #[serde(rename = "troubles")]
    pub error_counts: PhaseErrorCounts,
    pub client_cpu_seconds: Option<f64>,
    pub server_cpu_seconds: Option<f64>,
    /// Server CPU per iteration.
    pub server_cpu_us_each: Option<f64>,
    pub server_peak_rss_mib: Option<f64>,
    pub timeline: Vec<TimelinePoint>,
    /// Pairs of percentile and microseconds, from p0 to p100.
    pub percentiles: Vec<(f64, u64)>,
}

/// Times in microseconds, each with three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Latency {
    pub fn of(histogram: &Histogram) -> Self {
        let us = |nanos: u64| nanos.div_ceil(1_000);
        Self {
            count: histogram.count(),
            mean_us: us(histogram.mean()),
            p50_us: us(histogram.quantile(50_000)),
            p90_us: us(histogram.quantile(90_000)),
            p99_us: us(histogram.quantile(99_000)),
            p999_us: us(histogram.quantile(99_900)),
            max_us: us(histogram.max()),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OperationReport {
    pub name: String,
    /// Outcome labels with their counts, most frequent first.
    pub ends: Vec<(String, u64)>,
    pub latency: Latency,
}

/// Part of a phase, such as "while coupons were issued".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseWindow {
    pub name: String,
    #[serde(rename = "turns")]
    pub iterations: u64,
    pub seconds: f64,
    pub per_second: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseErrorCounts {
    pub shed: u64,
    pub unknown: u64,
    pub in_progress: u64,
    pub not_sent: u64,
    pub server_errors: u64,
    pub follow_ups: u64,
    pub gave_up: u64,
}

/// A slice of the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// End of the slice, in seconds since the start of the phase.
    pub at_seconds: f64,
    pub per_second: f64,
    /// Answers that gave the shopper the requested thing.
    pub won_per_second: f64,
    /// Two significant digits, like `p99_us`.
    pub p50_us: u64,
    pub p99_us: u64,
}

/// The drawn percentiles, closer together towards the slowest answers.
const DRAWN: [u64; 12] = [0, 25_000, 50_000, 75_000, 90_000, 95_000, 99_000, 99_500, 99_900, 99_950, 99_990, 100_000];

impl PhaseReport {
    pub fn of<S>(name: &str, load: &LoadResult<S>, operations: &[&str], baseline_per_second: Option<f64>) -> Self {
        let stats = &load.stats;
        let latency = stats.latency();
        let per_second = rate(stats.iterations, load.seconds);
        let error_counts = stats.error_counts;
        Self {
            name: name.to_owned(),
            connections: load.connections,
            iterations: stats.iterations,
            seconds: load.seconds,
            per_second,
            of_baseline: baseline_per_second.filter(|baseline| *baseline > 0.0).map(|baseline| per_second / baseline),
            latency: Latency::of(&latency),
            repeated: (stats.repeated_iterations.count() > 0).then(|| Latency::of(&stats.repeated_iterations)),
            operations: operations.iter().zip(&stats.operations).map(|(name, stats)| OperationReport::of(name, stats)).collect(),
            windows: Vec::new(),
            error_counts: PhaseErrorCounts {
                shed: error_counts.shed,
                unknown: error_counts.unknown,
                in_progress: error_counts.in_progress,
                not_sent: error_counts.not_sent,
                server_errors: error_counts.server_errors,
                follow_ups: error_counts.follow_ups,
                gave_up: error_counts.gave_up,
            },
            client_cpu_seconds: load.client_cpu_seconds,
            server_cpu_seconds: load.server_cpu_seconds,
            server_cpu_us_each: load.server_cpu_seconds.filter(|_| stats.iterations > 0).map(|cpu| cpu * 1e6 / stats.iterations as f64),
            server_peak_rss_mib: load.server_peak_rss_mib,
            timeline: points(load),
            percentiles: DRAWN.iter().map(|of| (*of as f64 / 1_000.0, latency.quantile(*of).div_ceil(1_000))).collect(),
        }
    }

    /// Outcome counts of all operations.
    pub fn ends(&self) -> Vec<(String, u64)> {
        self.operations.iter().flat_map(|operation| operation.ends.clone()).collect()
    }
}

impl OperationReport {
    pub fn of(name: &str, stats: &OperationStats) -> Self {
        let mut ends: Vec<(String, u64)> = stats.ends.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect();
        ends.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        Self { name: name.to_owned(), ends, latency: Latency::of(&stats.latency) }
    }
}

pub fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn points<S>(load: &LoadResult<S>) -> Vec<TimelinePoint> {
    let timeline = &load.stats.timeline;
    let slice = timeline.slice_nanos as f64 / 1e9;
    let point = |(index, found): (usize, &crate::load::timeline::Slice)| {
        let begin = index as f64 * slice;
        // The phase ends within the last slice. Dividing by the full length would show a drop that did not happen.
        let length = (load.seconds - begin).clamp(slice / 10.0, slice);
        TimelinePoint {
            at_seconds: begin + length,
            per_second: rate(found.answers, length),
            won_per_second: rate(found.won, length),
            p50_us: found.latency.quantile(50_000).div_ceil(1_000),
            p99_us: found.latency.quantile(99_000).div_ceil(1_000),
        }
    };
    timeline.slices.iter().enumerate().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::CheckState;

    #[test]
    fn one_violated_check_makes_the_verdict_violated() {
        let held = Check::new("a", "rule", CheckState::Held { evidence: "3".to_owned() });
        let skipped = Check::skipped("b", "rule", "no reason");
        let violated = Check::new("c", "rule", CheckState::Violated { detail: "two".to_owned() });
        assert!(RushVerdict::of(&[held.clone(), skipped]).is_clean());
        let verdict = RushVerdict::of(&[held, violated]);
        assert_eq!(verdict, RushVerdict::Violations(vec!["c: two".to_owned()]));
        assert_eq!(serde_json::to_string(&verdict).unwrap(), r#"{"verdict":"violations","violations":["c: two"]}"#);
        assert_eq!(serde_json::to_string(&RushVerdict::Clean).unwrap(), r#"{"verdict":"clean"}"#);
    }
}
