//! The numbers of issued coupons, and how many there are.

use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// One coupon as its owner was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    pub member_id: Uuid,
    pub issued_coupon_id: Uuid,
    pub number: i64,
}

/// Values that occur more than once, in order, each once.
pub fn repeated(values: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut seen = HashSet::new();
    let mut twice: Vec<i64> = values.into_iter().filter(|value| !seen.insert(*value)).collect();
    twice.sort_unstable();
    twice.dedup();
    twice
}

/// Numbers between 1 and the count of issues that nobody got, and numbers outside.
pub fn holes_and_strays(issues: &[Issue]) -> (Vec<i64>, Vec<i64>) {
    let count = issues.len() as i64;
    let given: HashSet<i64> = issues.iter().map(|issue| issue.number).collect();
    let holes = (1..=count).filter(|number| !given.contains(number)).collect();
    let mut strays: Vec<i64> = given.into_iter().filter(|number| !(1..=count).contains(number)).collect();
    strays.sort_unstable();
    (holes, strays)
}

/// Members who were given two different coupons.
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

/// The first few of a list of findings, and how many there are.
pub fn some_of<T: std::fmt::Display>(found: &[T]) -> String {
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
    fn a_full_row_of_numbers_is_clean() {
        let clean = issues(&[2, 1, 3]);
        assert_eq!(holes_and_strays(&clean), (vec![], vec![]));
        assert_eq!(repeated(clean.iter().map(|issue| issue.number)), Vec::<i64>::new());
        assert_eq!(members_issued_twice(&clean), Vec::<Uuid>::new());
    }

    #[test]
    fn finds_repeated_missing_and_stray_numbers() {
        let planted = issues(&[1, 2, 2, 9]);
        assert_eq!(repeated(planted.iter().map(|issue| issue.number)), [2]);
        assert_eq!(holes_and_strays(&planted), (vec![3, 4], vec![9]));
        assert_eq!(holes_and_strays(&issues(&[0, 1])), (vec![2], vec![0]));
    }

    #[test]
    fn finds_a_member_with_two_coupons_but_not_one_told_twice() {
        let mut planted = issues(&[1, 2]);
        planted.push(planted[0]);
        assert_eq!(members_issued_twice(&planted), Vec::<Uuid>::new());
        planted.push(Issue { issued_coupon_id: Uuid::from_u128(5_000), number: 3, ..planted[0] });
        assert_eq!(members_issued_twice(&planted), [planted[0].member_id]);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(some_of(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(some_of(&[1]), "1");
    }
}
