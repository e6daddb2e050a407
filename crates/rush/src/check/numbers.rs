//! Checks of the numbers of issued coupons.

use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// One issued coupon, as its member saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    pub member_id: Uuid,
    pub issued_coupon_id: Uuid,
    pub number: i64,
}

/// Values that occur more than once, sorted and without repeats.
pub fn repeated(values: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut seen = HashSet::new();
    let mut twice: Vec<i64> = values.into_iter().filter(|value| !seen.insert(*value)).collect();
    twice.sort_unstable();
    twice.dedup();
    twice
}

/// Missing numbers between 1 and the count of issues, and numbers outside of that range.
pub fn missing_and_out_of_range(issues: &[Issue]) -> (Vec<i64>, Vec<i64>) {
    let count = issues.len() as i64;
    let given: HashSet<i64> = issues.iter().map(|issue| issue.number).collect();
    let missing = (1..=count).filter(|number| !given.contains(number)).collect();
    let mut out_of_range: Vec<i64> = given.into_iter().filter(|number| !(1..=count).contains(number)).collect();
    out_of_range.sort_unstable();
    (missing, out_of_range)
}

/// Members who got two different coupons.
pub fn members_issued_twice(issues: &[Issue]) -> Vec<Uuid> {
    let mut first: HashMap<Uuid, Uuid> = HashMap::new();
    let mut twice: Vec<Uuid> = issues
        .iter()
        .filter(|issue| *first.entry(issue.member_id).or_insert(issue.issued_coupon_id) != issue.issued_coupon_id)
        .map(|issue| issue.member_id)
        .collect();
    twice.sort_unstable();
    twice.dedup();
    twice
}

/// The first few of a list of findings, and the count of the others.
pub fn first_few<T: std::fmt::Display>(found: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = found.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if found.len() > SHOWN { format!(" and {} more", found.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issues(numbers: &[i64]) -> Vec<Issue> {
        let issue = |(index, number): (usize, &i64)| Issue {
            member_id: Uuid::from_u128(index as u128),
            issued_coupon_id: Uuid::from_u128(1_000 + index as u128),
            number: *number,
        };
        numbers.iter().enumerate().map(issue).collect()
    }

    #[test]
    fn consecutive_numbers_are_clean() {
        let clean = issues(&[2, 1, 3]);
        assert_eq!(missing_and_out_of_range(&clean), (vec![], vec![]));
        assert_eq!(repeated(clean.iter().map(|issue| issue.number)), Vec::<i64>::new());
        assert_eq!(members_issued_twice(&clean), Vec::<Uuid>::new());
    }

    #[test]
    fn repeated_missing_and_out_of_range_numbers_are_found() {
        let planted = issues(&[1, 2, 2, 9]);
        assert_eq!(repeated(planted.iter().map(|issue| issue.number)), [2]);
        assert_eq!(missing_and_out_of_range(&planted), (vec![3, 4], vec![9]));
        assert_eq!(missing_and_out_of_range(&issues(&[0, 1])), (vec![2], vec![0]));
    }

    #[test]
    fn only_a_member_with_two_different_coupons_is_found() {
        let mut planted = issues(&[1, 2]);
        planted.push(planted[0]);
        assert_eq!(members_issued_twice(&planted), Vec::<Uuid>::new());
        planted.push(Issue { issued_coupon_id: Uuid::from_u128(5_000), number: 3, ..planted[0] });
        assert_eq!(members_issued_twice(&planted), [planted[0].member_id]);
    }

    #[test]
    fn a_long_list_is_shortened() {
        assert_eq!(first_few(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(first_few(&[1]), "1");
    }
}
