//! Counts durations in an HDR histogram: each value keeps a number of significant decimal digits, in constant memory.

/// Largest recorded value: one hour in nanoseconds, far beyond a shopper's patience. Longer durations count as one hour.
const MAX_VALUE: u64 = 3_600_000_000_000;

/// A histogram of unsigned values with a number of significant digits. With 3 digits, values are exact within 0.1 %, in 132 KiB.
#[derive(Clone, Debug)]
pub struct Histogram<const DIGITS: u8 = 3>(hdrhistogram::Histogram<u32>);

impl<const DIGITS: u8> Default for Histogram<DIGITS> {
    fn default() -> Self {
        // The lower bound is that of the precision. Zero is counted, too.
        Self(hdrhistogram::Histogram::new_with_bounds(1, MAX_VALUE, DIGITS).expect("the bounds are in order and the digits are few"))
    }
}

impl<const DIGITS: u8> Histogram<DIGITS> {
    pub fn record(&mut self, value: u64) {
        self.0.saturating_record(value.min(MAX_VALUE));
    }

    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both histograms have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// 0 when empty.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// 0 when empty.
    pub fn mean(&self) -> u64 {
        self.0.mean().round() as u64
    }

    /// The value that `of_100_000` of 100,000 values do not exceed (`99_900` is p99.9). 0 when empty.
    pub fn quantile(&self, of_100_000: u64) -> u64 {
        self.0.value_at_quantile(of_100_000 as f64 / 100_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Not below the recorded value, and above it by at most one part of `parts`.
    fn is_within(found: u64, recorded: u64, parts: u64) -> bool {
        found >= recorded && found - recorded <= recorded / parts
    }

    #[test]
    fn quantiles_of_a_known_series_have_three_digits() {
        let mut histogram = Histogram::<3>::default();
        for value in 1..=10_000u64 {
            histogram.record(value * 1_000);
        }
        for (quantile, exact) in [(50_000, 5_000_000), (99_000, 9_900_000), (99_900, 9_990_000), (100_000, 10_000_000)] {
            let found = histogram.quantile(quantile);
            assert!(is_within(found, exact, 1_000), "{quantile}: {found} for {exact}");
        }
        assert!(is_within(histogram.max(), 10_000_000, 1_000));
        assert_eq!(histogram.count(), 10_000);
        assert!(histogram.mean().abs_diff(5_000_500) <= 5_000, "{}", histogram.mean());
    }

    #[test]
    fn one_slow_request_in_a_thousand_shows_in_p999_and_not_in_p99() {
        let mut histogram = Histogram::<3>::default();
        (0..998).for_each(|_| histogram.record(1_000));
        (0..2).for_each(|_| histogram.record(9_000_000));
        assert_eq!(histogram.quantile(99_000), 1_000);
        assert!(is_within(histogram.quantile(99_900), 9_000_000, 1_000));
    }

    #[test]
    fn an_empty_histogram_returns_zero() {
        let histogram = Histogram::<3>::default();
        assert_eq!((histogram.quantile(50_000), histogram.max(), histogram.mean()), (0, 0, 0));
    }

    #[test]
    fn a_duration_above_one_hour_counts_as_one_hour() {
        let mut histogram = Histogram::<2>::default();
        histogram.record(u64::MAX);
        assert!(is_within(histogram.max(), MAX_VALUE, 100));
        assert_eq!(histogram.count(), 1);
    }

    #[test]
    fn a_full_histogram_takes_no_more_than_its_documented_memory() {
        let (mut fine, mut coarse) = (Histogram::<3>::default(), Histogram::<2>::default());
        (0..42).for_each(|power| fine.record(1 << power));
        (0..42).for_each(|power| coarse.record(1 << power));
        let kib = |counters: usize| counters * size_of::<u32>() / 1_024;
        assert_eq!((kib(fine.0.distinct_values()), kib(coarse.0.distinct_values())), (132, 18));
    }

    proptest! {
        #[test]
        fn a_value_is_found_within_its_precision(value in 0..=MAX_VALUE) {
            let (mut fine, mut coarse) = (Histogram::<3>::default(), Histogram::<2>::default());
            fine.record(value);
            coarse.record(value);
            prop_assert!(is_within(fine.quantile(100_000), value, 1_000));
            prop_assert!(is_within(coarse.quantile(100_000), value, 100));
        }

        #[test]
        fn merging_equals_recording_all_values_in_one_histogram(left in prop::collection::vec(0..=MAX_VALUE, 0..50), right in prop::collection::vec(0..=MAX_VALUE, 0..50)) {
            let fill = |values: &[u64]| values.iter().fold(Histogram::<3>::default(), |mut all, value| { all.record(*value); all });
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
