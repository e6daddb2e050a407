//! The rules of a first-come coupon, checked against the answers its claimants got.

use super::{
    Check,
    history::{Span, late_winners, out_of_order},
    numbers::{Issue, first_few, members_issued_twice, missing_and_out_of_range, repeated},
};

/// The answers that the claimants of one coupon got.
#[derive(Clone, Debug, Default)]
pub struct ClaimsEvidence {
    /// `None`: unlimited.
    pub quantity: Option<u64>,
    pub members: u64,
    pub issued: Vec<(Span, Issue)>,
    /// Claims answered with "sold out".
    pub sold_out: Vec<Span>,
    /// Claims answered with a waitlist ticket.
    pub waiting: Vec<(Span, i64)>,
    /// Claims whose outcome is still unknown after resolving.
    pub unresolved: u64,
    /// Claims that certainly did not happen, because the shopper gave up.
    pub never_claimed: u64,
    /// The server's counts of remaining coupons and of waiting members.
    pub server_remaining: Option<i64>,
    pub server_waiting: Option<i64>,
}

impl ClaimsEvidence {
    fn issues(&self) -> Vec<Issue> {
        self.issued.iter().map(|(_, issue)| *issue).collect()
    }

    /// Coupons issued beyond the quantity.
    pub fn over_issued(&self) -> u64 {
        self.quantity.map_or(0, |quantity| (self.issued.len() as u64).saturating_sub(quantity))
    }

    pub fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.over_issue(), self.exactly_issued(), self.numbers(), self.once_each(), self.first_come()];
        if !self.waiting.is_empty() {
            checks.push(self.tickets());
        }
        checks.push(self.counters());
        checks
    }

    fn over_issue(&self) -> Check {
        let over = self.over_issued();
        let violation = (over > 0).then(|| format!("{} issued, {over} too many", self.issued.len()));
        let quantity = self.quantity.map_or_else(|| "no limit".to_owned(), |quantity| format!("limit {quantity}"));
        Check::of("over-issue", "never more coupons than the quantity", violation, format!("{} issued, {quantity}", self.issued.len()))
    }

    fn exactly_issued(&self) -> Check {
        const ID: &str = "exactly-issued";
        const RULE: &str = "no coupon is left over while a member was refused";
        let due = self.quantity.map_or(self.members, |quantity| quantity.min(self.members));
        let issued = self.issued.len() as u64;
        if issued < due && self.unresolved + self.never_claimed > 0 {
            let reason = format!("{issued} of {due} issued, {} claims unknown, {} never made", self.unresolved, self.never_claimed);
            return Check::skipped(ID, RULE, reason);
        }
        Check::of(ID, RULE, (issued < due).then(|| format!("{issued} issued, {due} due")), format!("{issued} issued, {due} due"))
    }

    fn numbers(&self) -> Check {
        const ID: &str = "numbers";
        const RULE: &str = "coupons are numbered 1, 2, 3 … without repeat or gap";
        let issues = self.issues();
        let twice = repeated(issues.iter().map(|issue| issue.number));
        let (missing, out_of_range) = missing_and_out_of_range(&issues);
        let mut violations = Vec::new();
        if !twice.is_empty() {
            violations.push(format!("given twice: {}", first_few(&twice)));
        }
        // A claim of unknown outcome may have a number that no shopper saw.
        if self.unresolved == 0 && (!missing.is_empty() || !out_of_range.is_empty()) {
            violations.push(format!("missing: {}; outside 1..{}: {}", first_few(&missing), issues.len(), first_few(&out_of_range)));
        }
        let violation = (!violations.is_empty()).then(|| violations.join("; "));
        Check::of(ID, RULE, violation, format!("{} numbers", issues.len()))
    }

    fn once_each(&self) -> Check {
        let twice = members_issued_twice(&self.issues());
        let violation = (!twice.is_empty()).then(|| format!("members with two: {}", first_few(&twice)));
        Check::of("once-each", "no member is issued the coupon twice", violation, format!("{} issues", self.issued.len()))
    }

    fn first_come(&self) -> Check {
        let winners: Vec<Span> = self.issued.iter().map(|(span, _)| *span).collect();
        let refused: Vec<Span> = self.sold_out.iter().copied().chain(self.waiting.iter().map(|(span, _)| *span)).collect();
        let late = late_winners(&winners, &refused);
        let numbered: Vec<(Span, i64)> = self.issued.iter().map(|(span, issue)| (*span, issue.number)).collect();
        let crossed = out_of_order(&numbered);
        let mut violations = Vec::new();
        if !late.is_empty() {
            violations.push(format!("{} got a coupon in a request begun after another was refused", late.len()));
        }
        if !crossed.is_empty() {
            let pairs: Vec<String> = crossed.iter().map(|(early, late)| format!("{early} before {late}")).collect();
            violations.push(format!("numbers out of order: {}", first_few(&pairs)));
        }
        let violation = (!violations.is_empty()).then(|| violations.join("; "));
        let evidence = format!("{} winners against {} refused or waiting", winners.len(), refused.len());
        Check::of("first-come", "a claim begun after a refusal gets no coupon; an earlier claim has the lower number", violation, evidence)
    }

    fn tickets(&self) -> Check {
        let twice = repeated(self.waiting.iter().map(|(_, ticket)| *ticket));
        let crossed = out_of_order(&self.waiting);
        let mut violations = Vec::new();
        if !twice.is_empty() {
            violations.push(format!("given twice: {}", first_few(&twice)));
        }
        if !crossed.is_empty() {
            let pairs: Vec<String> = crossed.iter().map(|(early, late)| format!("{early} before {late}")).collect();
            violations.push(format!("out of order: {}", first_few(&pairs)));
        }
        let violation = (!violations.is_empty()).then(|| violations.join("; "));
        Check::of("tickets", "waiting tickets are unique and in order of arrival", violation, format!("{} tickets", self.waiting.len()))
    }

    fn counters(&self) -> Check {
        const ID: &str = "counters";
        const RULE: &str = "the server's counts equal those of its clients";
        if self.unresolved > 0 {
            return Check::skipped(ID, RULE, format!("{} claims of unknown outcome", self.unresolved));
        }
        if self.server_remaining.is_none() && self.server_waiting.is_none() {
            return Check::skipped(ID, RULE, "the server shows no counts of this coupon");
        }
        let due = self.quantity.map(|quantity| quantity as i64 - self.issued.len() as i64);
        let mut violations = Vec::new();
        if let Some((says, due)) = self.server_remaining.zip(due).filter(|(says, due)| says != due) {
            violations.push(format!("it says {says} remain, clients say {due}"));
        }
        if let Some(says) = self.server_waiting.filter(|says| *says != self.waiting.len() as i64) {
            violations.push(format!("it says {says} wait, clients say {}", self.waiting.len()));
        }
        let says = |count: Option<i64>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let evidence = format!("remaining {}, waiting {}", says(self.server_remaining), says(self.server_waiting));
        Check::of(ID, RULE, (!violations.is_empty()).then(|| violations.join("; ")), evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    /// Three of five members get a coupon, one after the other. The other two are refused.
    fn honest() -> ClaimsEvidence {
        let issue = |index: u64| {
            let span = Span { begin: index * 10, end: index * 10 + 5 };
            let member_id = Uuid::from_u128(u128::from(index));
            (span, Issue { member_id, issued_coupon_id: Uuid::from_u128(100 + u128::from(index)), number: index as i64 + 1 })
        };
        ClaimsEvidence {
            quantity: Some(3),
            members: 5,
            issued: (0..3).map(issue).collect(),
            sold_out: vec![Span { begin: 30, end: 35 }, Span { begin: 40, end: 45 }],
            server_remaining: Some(0),
            server_waiting: Some(0),
            ..ClaimsEvidence::default()
        }
    }

    fn violated(evidence: &ClaimsEvidence) -> Vec<String> {
        evidence.checks().iter().filter(|check| check.violation().is_some()).map(|check| check.id.clone()).collect()
    }

    #[test]
    fn correct_answers_violate_no_rule() {
        assert_eq!(violated(&honest()), Vec::<String>::new());
    }

    #[test]
    fn an_over_issue_is_found() {
        let mut planted = honest();
        let issue = Issue { member_id: Uuid::from_u128(9), issued_coupon_id: Uuid::from_u128(109), number: 4 };
        planted.issued.push((Span { begin: 28, end: 34 }, issue));
        planted.server_remaining = Some(-1);
        assert_eq!(violated(&planted), ["over-issue"]);
        assert_eq!(planted.over_issued(), 1);
    }

    #[test]
    fn an_under_issue_is_found_unless_a_shopper_gave_up() {
        let mut planted = honest();
        planted.issued.pop();
        planted.server_remaining = Some(1);
        assert_eq!(violated(&planted), ["exactly-issued"]);
        planted.never_claimed = 1;
        assert_eq!(violated(&planted), Vec::<String>::new());
    }

    #[test]
    fn a_repeated_and_a_missing_number_are_found() {
        let mut planted = honest();
        planted.issued[2].1.number = 2;
        assert_eq!(violated(&planted), ["numbers"]);
    }

    #[test]
    fn a_late_winner_is_found() {
        let mut planted = honest();
        planted.issued[2].0 = Span { begin: 36, end: 50 };
        assert_eq!(violated(&planted), ["first-come"]);
    }

    #[test]
    fn numbers_and_tickets_out_of_order_are_found() {
        let mut planted = honest();
        planted.issued[0].1.number = 2;
        planted.issued[1].1.number = 1;
        assert_eq!(violated(&planted), ["first-come"]);
        let mut planted = ClaimsEvidence { sold_out: vec![], server_waiting: Some(2), ..honest() };
        planted.waiting = vec![(Span { begin: 30, end: 31 }, 2), (Span { begin: 40, end: 41 }, 1)];
        assert_eq!(violated(&planted), ["tickets"]);
        planted.waiting = vec![(Span { begin: 30, end: 31 }, 1), (Span { begin: 40, end: 41 }, 1)];
        assert_eq!(violated(&planted), ["tickets"]);
    }

    #[test]
    fn a_member_with_two_coupons_and_wrong_counts_are_found() {
        let mut planted = honest();
        planted.issued[2].1.member_id = planted.issued[0].1.member_id;
        assert_eq!(violated(&planted), ["once-each"]);
        let lying = ClaimsEvidence { server_remaining: Some(1), ..honest() };
        assert_eq!(violated(&lying), ["counters"]);
    }
}
