//! First come, first served, checked from the client's side. Only requests that do not overlap in time are compared, because the order of
//! overlapping requests is known only to the server.

/// Begin and end of an answered request, on a common clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub begin: u64,
    pub end: u64,
}

/// I-C4: the requests that were *begun* after a refusal had ended, and still got a coupon.
/// Valid only if no coupon was returned or added in between.
pub fn late_winners(winners: &[Span], refused_for_good: &[Span]) -> Vec<Span> {
    let Some(first_refusal) = refused_for_good.iter().map(|span| span.end).min() else { return Vec::new() };
    winners.iter().copied().filter(|winner| winner.begin > first_refusal).collect()
}

/// Pairs of numbers out of order: the first request had its answer before the second was begun, but has the higher number.
/// Returns at most one pair for each second request.
pub fn out_of_order(given: &[(Span, i64)]) -> Vec<(i64, i64)> {
    let mut by_begin: Vec<_> = given.to_vec();
    by_begin.sort_unstable_by_key(|(span, _)| span.begin);
    let mut by_end: Vec<_> = given.to_vec();
    by_end.sort_unstable_by_key(|(span, _)| span.end);
    let mut ended = by_end.iter().peekable();
    let mut highest_ended: Option<i64> = None;
    let mut found = Vec::new();
    for (span, number) in by_begin {
        while let Some((_, earlier)) = ended.next_if(|(earlier, _)| earlier.end < span.begin) {
            highest_ended = highest_ended.max(Some(*earlier));
        }
        if let Some(earlier) = highest_ended.filter(|earlier| *earlier > number) {
            found.push((earlier, number));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(begin: u64, end: u64) -> Span {
        Span { begin, end }
    }

    #[test]
    fn a_winner_begun_after_a_refusal_is_found() {
        let refused = [span(5, 20), span(6, 10)];
        assert_eq!(late_winners(&[span(1, 30), span(10, 12)], &refused), []);
        assert_eq!(late_winners(&[span(1, 30), span(11, 12)], &refused), [span(11, 12)]);
        assert_eq!(late_winners(&[span(11, 12)], &[]), []);
    }

    #[test]
    fn numbers_may_cross_only_if_requests_overlap() {
        assert_eq!(out_of_order(&[(span(0, 10), 2), (span(5, 8), 1)]), []);
        assert_eq!(out_of_order(&[(span(0, 4), 2), (span(5, 8), 1)]), [(2, 1)]);
        assert_eq!(out_of_order(&[(span(5, 8), 3), (span(0, 4), 1), (span(4, 9), 2)]), []);
    }

    proptest! {
        /// The sweep finds the same as a comparison of all pairs.
        #[test]
        fn the_sweep_equals_a_comparison_of_all_pairs(requests in prop::collection::vec((0u64..50, 0u64..20, 0i64..30), 0..30)) {
            let given: Vec<_> = requests.iter().map(|(begin, length, number)| (span(*begin, begin + length), *number)).collect();
            let mut expected: Vec<i64> = given.iter()
                .filter(|(late, number)| given.iter().any(|(early, other)| early.end < late.begin && other > number))
                .map(|(_, number)| *number).collect();
            let mut found: Vec<i64> = out_of_order(&given).into_iter().map(|(_, number)| number).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        /// Numbers assigned at one moment within each request are never out of order.
        #[test]
        fn numbers_assigned_in_order_are_never_reported(requests in prop::collection::vec((0u64..1_000, 0u64..100, 0u64..100), 0..60)) {
            let mut by_moment: Vec<_> = requests.iter().map(|(begin, before, after)| (begin + before, span(*begin, begin + before + after))).collect();
            by_moment.sort_by_key(|(moment, _)| *moment);
            let given: Vec<_> = by_moment.iter().enumerate().map(|(index, (_, span))| (*span, index as i64 + 1)).collect();
            prop_assert_eq!(out_of_order(&given), []);
        }
    }
}
