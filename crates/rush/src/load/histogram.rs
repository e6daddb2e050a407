//! Counts durations in log-linear buckets: every power of two is split into `1 << BITS` equal parts.
//! So each value is stored within `1 / (1 << BITS)` of itself, in constant memory.

/// A histogram of unsigned values. With 7 bits, values are exact within 0.8 %.
#[derive(Clone, Debug)]
pub struct Histogram<const BITS: u32 = 7> {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl<const BITS: u32> Default for Histogram<BITS> {
    fn default() -> Self {
        // Buckets are allocated on demand, because many slices of a timeline stay nearly empty.
        Self { counts: Vec::new(), total: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl<const BITS: u32> Histogram<BITS> {
    fn index(value: u64) -> usize {
        let magnitude = 63 - (value | 1).leading_zeros();
        if magnitude < BITS {
            return value as usize;
        }
        let shift = magnitude - BITS;
        (((shift + 1) << BITS) as usize) + ((value >> shift) as usize & ((1 << BITS) - 1))
    }

    /// The largest value of a bucket.
    fn upper_edge(index: usize) -> u64 {
        let parts = 1u64 << BITS;
        let index = index as u64;
        if index < parts {
            return index;
        }
        let shift = (index >> BITS) - 1;
        let low = u128::from(parts + (index & (parts - 1))) << shift;
        u64::try_from(low + (1u128 << shift) - 1).unwrap_or(u64::MAX)
    }

    pub fn record(&mut self, value: u64) {
        let index = Self::index(value);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.total
    }
    pub fn max(&self) -> u64 {
        self.max
    }
    pub fn mean(&self) -> u64 {
        if self.total == 0 { 0 } else { u64::try_from(self.sum / u128::from(self.total)).unwrap_or(u64::MAX) }
    }

    /// The value that `of_100_000` of 100,000 values do not exceed (`99_900` is p99.9). 0 when empty.
    pub fn quantile(&self, of_100_000: u64) -> u64 {
        let wanted = (u128::from(self.total) * u128::from(of_100_000.min(100_000))).div_ceil(100_000).max(1);
        let mut seen = 0u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return Self::upper_edge(index).clamp(self.min, self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_known_series_are_within_one_percent() {
        let mut histogram = Histogram::<7>::default();
        for value in 1..=10_000u64 {
            histogram.record(value * 1_000);
        }
        for (quantile, exact) in [(50_000, 5_000_000), (99_000, 9_900_000), (99_900, 9_990_000)] {
            let found = histogram.quantile(quantile);
            assert!(found >= exact && found <= exact + exact / 100, "{quantile}: {found} for {exact}");
        }
        assert_eq!((histogram.quantile(100_000), histogram.max(), histogram.count()), (10_000_000, 10_000_000, 10_000));
        assert_eq!(histogram.mean(), 5_000_500);
    }

    #[test]
    fn one_slow_request_in_a_thousand_shows_in_p999_and_not_in_p99() {
        let mut histogram = Histogram::<7>::default();
        (0..998).for_each(|_| histogram.record(1_000));
        (0..2).for_each(|_| histogram.record(9_000_000));
        assert!(histogram.quantile(99_000) < 1_100);
        assert_eq!(histogram.quantile(99_900), 9_000_000);
    }

    #[test]
    fn an_empty_histogram_returns_zero() {
        let histogram = Histogram::<7>::default();
        assert_eq!((histogram.quantile(50_000), histogram.max(), histogram.mean()), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn a_bucket_edge_is_within_its_precision(value in any::<u64>()) {
            let edge = Histogram::<7>::upper_edge(Histogram::<7>::index(value));
            prop_assert!(edge >= value);
            prop_assert!(edge - value <= value / 128);
            prop_assert_eq!(Histogram::<7>::index(edge), Histogram::<7>::index(value));
        }

        #[test]
        fn merging_equals_recording_all_values_in_one_histogram(left in prop::collection::vec(any::<u64>(), 0..50), right in prop::collection::vec(any::<u64>(), 0..50)) {
            let fill = |values: &[u64]| values.iter().fold(Histogram::<7>::default(), |mut all, value| { all.record(*value); all });
            let mut merged = fill(&left);
            merged.merge(&fill(&right));
            let whole = fill(&[left, right].concat());
            prop_assert_eq!((merged.count(), merged.max(), merged.mean()), (whole.count(), whole.max(), whole.mean()));
            for quantile in [0, 50_000, 99_000, 100_000] {
                prop_assert_eq!(merged.quantile(quantile), whole.quantile(quantile));
            }
        }
    }
}
