//! What a rush found: numbers for people (table, page) and for programs (JSON). Built from counts; it measures and judges nothing itself.

pub mod files;
mod html;
mod svg;
pub mod table;

use crate::{
    check::Check,
    engine::{Driven, histogram::Histogram, tally::OperationTally},
    system::Machine,
};
use contracts::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub scenario: String,
    pub started_at: Timestamp,
    pub url: String,
    pub machine: Machine,
    pub members: usize,
    pub concurrency: usize,
    pub threads: usize,
    /// What was set up: coupon, quantity, stock, prices.
    pub facts: Vec<Fact>,
    pub phases: Vec<Phase>,
    pub totals: Totals,
    pub checks: Vec<Check>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What an acknowledgement of this server promises.
    pub durability: String,
    pub notes: Vec<String>,
    /// Requests a second of a bare server with the same client, measured in the same run.
    pub floor_per_second: Option<f64>,
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
pub enum Verdict {
    Clean,
    Violations(Vec<String>),
}

impl Verdict {
    pub fn of(checks: &[Check]) -> Self {
        let violations: Vec<String> = checks.iter().filter_map(Check::violation).collect();
        if violations.is_empty() { Verdict::Clean } else { Verdict::Violations(violations) }
    }
    pub fn is_clean(&self) -> bool {
        *self == Verdict::Clean
    }
}

/// The counts a rush is judged by; `None` where the scenario has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub issued: Option<u64>,
    pub waiting: Option<u64>,
    pub over_issued: Option<u64>,
    pub paid: Option<u64>,
    pub out_of_stock: Option<u64>,
    pub oversold: Option<u64>,
    /// Acknowledged claims and orders that were gone or different when read back; `None` when they were not read back.
    pub lost_acknowledgements: Option<u64>,
    /// Claims and orders whose outcome is still unknown at the end.
    pub unknown_outcomes: u64,
    pub server_errors: u64,
    pub shed: u64,
}

/// A stretch of load with one purpose.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub connections: usize,
    /// Turns that ended, each with one answer (or none, see `troubles.gave_up`).
    pub turns: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// `per_second` over the floor's.
    pub of_floor: Option<f64>,
    pub latency: Latency,
    /// Whole turns that had to be repeated, with all their waiting.
    pub repeated: Option<Latency>,
    pub operations: Vec<Operation>,
    pub windows: Vec<Window>,
    pub troubles: Troubles,
    pub client_cpu_seconds: Option<f64>,
    pub server_cpu_seconds: Option<f64>,
    /// Server CPU of a turn.
    pub server_cpu_us_each: Option<f64>,
    pub server_peak_rss_mib: Option<f64>,
    pub timeline: Vec<Point>,
    /// (percentile, microseconds) from p0 to p100.
    pub percentiles: Vec<(f64, u64)>,
}

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
    pub fn of<const BITS: u32>(histogram: &Histogram<BITS>) -> Self {
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
pub struct Operation {
    pub name: String,
    /// How its turns ended, most frequent first.
    pub ends: Vec<(String, u64)>,
    pub latency: Latency,
}

/// Part of a phase, such as "while coupons were issued".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    pub name: String,
    pub turns: u64,
    pub seconds: f64,
    pub per_second: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubles {
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
pub struct Point {
    /// The slice's end, from the phase's start.
    pub at_seconds: f64,
    pub per_second: f64,
    /// Answers that gave what was asked for.
    pub won_per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
}

/// The percentiles drawn: each step to the right leaves half or less of the slow ones.
const DRAWN: [u64; 12] = [0, 25_000, 50_000, 75_000, 90_000, 95_000, 99_000, 99_500, 99_900, 99_950, 99_990, 100_000];

impl Phase {
    pub fn of<S>(name: &str, driven: &Driven<S>, operations: &[&str], floor_per_second: Option<f64>) -> Self {
        let tally = &driven.tally;
        let latency = tally.latency();
        let per_second = rate(tally.turns, driven.seconds);
        let troubles = tally.troubles;
        Self {
            name: name.to_owned(),
            connections: driven.connections,
            turns: tally.turns,
            seconds: driven.seconds,
            per_second,
            of_floor: floor_per_second.filter(|floor| *floor > 0.0).map(|floor| per_second / floor),
            latency: Latency::of(&latency),
            repeated: (tally.repeated_turns.count() > 0).then(|| Latency::of(&tally.repeated_turns)),
            operations: operations.iter().zip(&tally.operations).map(|(name, tally)| operation(name, tally)).collect(),
            windows: Vec::new(),
            troubles: Troubles {
                shed: troubles.shed,
                unknown: troubles.unknown,
                in_progress: troubles.in_progress,
                not_sent: troubles.not_sent,
                server_errors: troubles.server_errors,
                follow_ups: troubles.follow_ups,
                gave_up: troubles.gave_up,
            },
            client_cpu_seconds: driven.client_cpu_seconds,
            server_cpu_seconds: driven.server_cpu_seconds,
            server_cpu_us_each: driven.server_cpu_seconds.filter(|_| tally.turns > 0).map(|cpu| cpu * 1e6 / tally.turns as f64),
            server_peak_rss_mib: driven.server_peak_rss_mib,
            timeline: points(driven),
            percentiles: DRAWN.iter().map(|of| (*of as f64 / 1_000.0, latency.quantile(*of).div_ceil(1_000))).collect(),
        }
    }

    /// How all turns ended, over all operations.
    pub fn ends(&self) -> Vec<(String, u64)> {
        self.operations.iter().flat_map(|operation| operation.ends.clone()).collect()
    }
}

fn operation(name: &str, tally: &OperationTally) -> Operation {
    let mut ends: Vec<(String, u64)> = tally.ends.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect();
    ends.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    Operation { name: name.to_owned(), ends, latency: Latency::of(&tally.latency) }
}

pub fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn points<S>(driven: &Driven<S>) -> Vec<Point> {
    let timeline = &driven.tally.timeline;
    let slice = timeline.slice_nanos as f64 / 1e9;
    let point = |(index, found): (usize, &crate::engine::timeline::Slice)| {
        let begin = index as f64 * slice;
        // The last slice is cut off by the end of the phase; dividing by all of it would show a drop that was none.
        let length = (driven.seconds - begin).clamp(slice / 10.0, slice);
        Point {
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
    fn one_violated_check_spoils_the_verdict() {
        let held = Check::new("a", "rule", CheckState::Held { evidence: "3".to_owned() });
        let skipped = Check::skipped("b", "rule", "no reason");
        let violated = Check::new("c", "rule", CheckState::Violated { detail: "two".to_owned() });
        assert!(Verdict::of(&[held.clone(), skipped]).is_clean());
        let verdict = Verdict::of(&[held, violated]);
        assert_eq!(verdict, Verdict::Violations(vec!["c: two".to_owned()]));
        assert_eq!(serde_json::to_string(&verdict).unwrap(), r#"{"verdict":"violations","violations":["c: two"]}"#);
        assert_eq!(serde_json::to_string(&Verdict::Clean).unwrap(), r#"{"verdict":"clean"}"#);
    }
}
