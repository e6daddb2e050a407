//! Answers over time, in slices that grow with the run. So a run of a third of a second and a run of an hour both give a readable curve.

use super::histogram::Histogram;

/// Initial length of a slice. Short enough to show the start of a run.
const FIRST_SLICE_NANOS: u64 = 5_000_000;
/// Maximum number of slices. Beyond it, neighbours are merged, because a plot cannot show more points than pixels.
const MAX_SLICES: usize = 200;

#[derive(Clone, Debug, Default)]
pub struct Slice {
    pub answers: u64,
    /// Answers that gave the shopper the requested thing: a coupon, a paid order, a page.
    pub won: u64,
    /// Two significant digits, so that a slice takes 18 KiB and a timeline at most 3.5 MiB.
    pub latency: Histogram<2>,
}

impl Slice {
    fn merge(&mut self, other: &Slice) {
        self.answers += other.answers;
        self.won += other.won;
        self.latency.merge(&other.latency);
    }
}

#[derive(Clone, Debug)]
pub struct Timeline {
    pub slice_nanos: u64,
    pub slices: Vec<Slice>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { slice_nanos: FIRST_SLICE_NANOS, slices: Vec::new() }
    }
}

impl Timeline {
    pub fn record(&mut self, at_nanos: u64, latency_nanos: u64, won: bool) {
        while at_nanos / self.slice_nanos >= MAX_SLICES as u64 {
            self.coarsen();
        }
        // Below MAX_SLICES, because of the loop above.
        let index = (at_nanos / self.slice_nanos) as usize;
        if index >= self.slices.len() {
            self.slices.resize_with(index + 1, Slice::default);
        }
        let slice = &mut self.slices[index];
        slice.answers += 1;
        slice.won += u64::from(won);
        slice.latency.record(latency_nanos);
    }

    fn coarsen(&mut self) {
        self.slice_nanos *= 2;
        let merged = self.slices.chunks(2).map(|pair| {
            let mut first = pair[0].clone();
            pair[1..].iter().for_each(|second| first.merge(second));
            first
        });
        self.slices = merged.collect();
    }

    pub fn merge(&mut self, mut other: Timeline) {
        while self.slice_nanos < other.slice_nanos {
            self.coarsen();
        }
        while other.slice_nanos < self.slice_nanos {
            other.coarsen();
        }
        if other.slices.len() > self.slices.len() {
            self.slices.resize_with(other.slices.len(), Slice::default);
        }
        for (mine, theirs) in self.slices.iter_mut().zip(&other.slices) {
            mine.merge(theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_few_slices_and_loses_no_answer() {
        let mut timeline = Timeline::default();
        for millis in 0..60_000u64 {
            timeline.record(millis * 1_000_000, 1_000, millis % 2 == 0);
        }
        assert!(timeline.slices.len() <= MAX_SLICES && timeline.slices.len() > MAX_SLICES / 2);
        assert_eq!(timeline.slices.iter().map(|slice| slice.answers).sum::<u64>(), 60_000);
        assert_eq!(timeline.slices.iter().map(|slice| slice.won).sum::<u64>(), 30_000);
    }

    #[test]
    fn threads_with_different_slices_merge_on_one_scale() {
        let (mut short, mut long) = (Timeline::default(), Timeline::default());
        short.record(1_000_000, 10, true);
        long.record(5_000_000_000, 10, true);
        short.merge(long.clone());
        assert_eq!(short.slice_nanos, long.slice_nanos);
        assert_eq!((short.slices[0].answers, short.slices.last().unwrap().answers), (1, 1));
    }
}
