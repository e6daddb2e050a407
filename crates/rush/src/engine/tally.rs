//! What one load thread has counted; threads are merged when all have ended.

use super::{histogram::Histogram, timeline::Timeline};

/// A turn that ended, with what the scenario keeps of it. Times are nanoseconds of the run's clock.
#[derive(Clone, Debug)]
pub struct Record<S> {
    pub turn: u32,
    /// When the turn's first request was begun.
    pub first_begin: u64,
    /// The earliest moment at which the server can have decided what was answered: the begin of the first request of unknown outcome, else
    /// of the one that was answered.
    pub begin: u64,
    pub end: u64,
    pub seen: S,
}

/// What went wrong on the way, in requests, apart from refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Troubles {
    /// Answered 503 or 429 and sent again.
    pub shed: u64,
    /// Sent, but no whole answer came; sent again.
    pub unknown: u64,
    /// Answered that the same request is still running, and asked again.
    pub in_progress: u64,
    /// Never sent for want of a connection.
    pub not_sent: u64,
    /// Answers of 500 and above other than 503.
    pub server_errors: u64,
    /// Questions asked to learn how a turn ended, such as reading an order until it rests.
    pub follow_ups: u64,
    /// Turns that ended without an answer because patience did.
    pub gave_up: u64,
}

#[derive(Clone, Debug, Default)]
pub struct OperationTally {
    pub latency: Histogram<7>,
    /// How turns ended, few kinds each.
    pub ends: Vec<(&'static str, u64)>,
}

#[derive(Clone, Debug)]
pub struct Tally<S> {
    pub operations: Vec<OperationTally>,
    /// From the first request of a turn to its end, all waiting and repeating included; only turns that had to repeat.
    pub repeated_turns: Histogram<7>,
    pub timeline: Timeline,
    pub troubles: Troubles,
    pub records: Vec<Record<S>>,
    pub turns: u64,
    /// The end of the last turn, from the start of the load.
    pub last_end_nanos: u64,
}

impl<S> Tally<S> {
    pub fn new(operations: usize) -> Self {
        Self {
            operations: vec![OperationTally::default(); operations],
            repeated_turns: Histogram::default(),
            timeline: Timeline::default(),
            troubles: Troubles::default(),
            records: Vec::new(),
            turns: 0,
            last_end_nanos: 0,
        }
    }

    pub fn count_end(&mut self, operation: usize, label: &'static str) {
        let ends = &mut self.operations[operation].ends;
        match ends.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => ends.push((label, 1)),
        }
    }

    pub fn merge(&mut self, other: Tally<S>) {
        for (operation, theirs) in other.operations.into_iter().enumerate() {
            self.operations[operation].latency.merge(&theirs.latency);
            for (label, count) in theirs.ends {
                match self.operations[operation].ends.iter_mut().find(|(known, _)| *known == label) {
                    Some((_, mine)) => *mine += count,
                    None => self.operations[operation].ends.push((label, count)),
                }
            }
        }
        self.repeated_turns.merge(&other.repeated_turns);
        self.timeline.merge(other.timeline);
        self.troubles.shed += other.troubles.shed;
        self.troubles.unknown += other.troubles.unknown;
        self.troubles.in_progress += other.troubles.in_progress;
        self.troubles.not_sent += other.troubles.not_sent;
        self.troubles.server_errors += other.troubles.server_errors;
        self.troubles.follow_ups += other.troubles.follow_ups;
        self.troubles.gave_up += other.troubles.gave_up;
        self.records.extend(other.records);
        self.turns += other.turns;
        self.last_end_nanos = self.last_end_nanos.max(other.last_end_nanos);
    }

    pub fn latency(&self) -> Histogram<7> {
        self.operations.iter().fold(Histogram::default(), |mut all, operation| {
            all.merge(&operation.latency);
            all
        })
    }

    pub fn ended(&self, label: &str) -> u64 {
        self.operations.iter().flat_map(|operation| &operation.ends).filter(|(known, _)| *known == label).map(|(_, count)| count).sum()
    }
}
