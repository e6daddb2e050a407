//! Counts of one load thread. They are merged when all threads have ended.

use super::{histogram::Histogram, timeline::Timeline};

/// An iteration that ended, with the scenario's observation. Times are nanoseconds of the run's clock.
#[derive(Clone, Debug)]
pub struct IterationRecord<S> {
    pub iteration: u32,
    /// Begin of the first request.
    pub first_begin: u64,
    /// Earliest time at which the server can have decided the answer: the begin of the first request of unknown outcome, else of the
    /// answered request.
    pub begin: u64,
    pub end: u64,
    pub observation: S,
}

/// Failed and repeated requests, without refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadErrorCounts {
    /// Requests answered with 503 or 429 and sent again.
    pub shed: u64,
    /// Requests sent without a complete answer, and sent again.
    pub unknown: u64,
    /// Requests answered with "still running", and sent again.
    pub in_progress: u64,
    /// Requests not sent, because no connection could be opened.
    pub not_sent: u64,
    /// Answers of 500 and above other than 503.
    pub server_errors: u64,
    /// Follow-up requests that learn the outcome, such as polling an order until it is settled.
    pub follow_ups: u64,
    /// Iterations given up without an answer.
    pub gave_up: u64,
}

#[derive(Clone, Debug, Default)]
pub struct OperationStats {
    pub latency: Histogram,
    /// Outcome labels with their counts. There are few, so a list is enough.
    pub ends: Vec<(&'static str, u64)>,
}

impl OperationStats {
    pub fn count(&mut self, label: &'static str) {
        match self.ends.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => self.ends.push((label, 1)),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Stats<S> {
    pub operations: Vec<OperationStats>,
    /// Duration from the first request to the end, with all waits and repeats. Only iterations that repeated a request.
    pub repeated_iterations: Histogram,
    pub timeline: Timeline,
    pub error_counts: LoadErrorCounts,
    pub records: Vec<IterationRecord<S>>,
    pub iterations: u64,
    /// End of the last iteration, in nanoseconds since the start of the load.
    pub last_end_nanos: u64,
}

impl<S> Stats<S> {
    pub fn new(operations: usize) -> Self {
        Self {
            operations: vec![OperationStats::default(); operations],
            repeated_iterations: Histogram::default(),
            timeline: Timeline::default(),
            error_counts: LoadErrorCounts::default(),
            records: Vec::new(),
            iterations: 0,
            last_end_nanos: 0,
        }
    }

    pub fn count_ending(&mut self, operation: usize, label: &'static str) {
        self.operations[operation].count(label);
    }

    pub fn merge(&mut self, other: Stats<S>) {
        for (operation, theirs) in other.operations.into_iter().enumerate() {
            self.operations[operation].latency.merge(&theirs.latency);
            for (label, count) in theirs.ends {
                match self.operations[operation].ends.iter_mut().find(|(known, _)| *known == label) {
                    Some((_, mine)) => *mine += count,
                    None => self.operations[operation].ends.push((label, count)),
                }
            }
        }
        self.repeated_iterations.merge(&other.repeated_iterations);
        self.timeline.merge(other.timeline);
        self.error_counts.shed += other.error_counts.shed;
        self.error_counts.unknown += other.error_counts.unknown;
        self.error_counts.in_progress += other.error_counts.in_progress;
        self.error_counts.not_sent += other.error_counts.not_sent;
        self.error_counts.server_errors += other.error_counts.server_errors;
        self.error_counts.follow_ups += other.error_counts.follow_ups;
        self.error_counts.gave_up += other.error_counts.gave_up;
        self.records.extend(other.records);
        self.iterations += other.iterations;
        self.last_end_nanos = self.last_end_nanos.max(other.last_end_nanos);
    }

    pub fn latency(&self) -> Histogram {
        self.operations.iter().fold(Histogram::default(), |mut all, operation| {
            all.merge(&operation.latency);
            all
        })
    }

    pub fn ended(&self, label: &str) -> u64 {
        self.operations.iter().flat_map(|operation| &operation.ends).filter(|(known, _)| *known == label).map(|(_, count)| count).sum()
    }
}
