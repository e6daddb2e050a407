//! The rules of a first-come coupon, held against what its claimants were told.

use super::{
    Check,
    history::{Span, late_winners, out_of_order},
    numbers::{Issue, holes_and_strays, members_issued_twice, repeated, some_of},
};

/// What the claimants of one coupon saw.
#[derive(Clone, Debug, Default)]
pub struct ClaimsEvidence {
    /// `None`: unlimited.
    pub quantity: Option<u64>,
    pub members: u64,
    pub issued: Vec<(Span, Issue)>,
    /// Told that nothing is left.
    pub sold_out: Vec<Span>,
    /// Told to wait, with a ticket.
    pub waiting: Vec<(Span, i64)>,
    /// Claims whose outcome is not known even after asking.
    pub unresolved: u64,
    /// Claims that surely never happened, because the shopper gave up.
    pub never_claimed: u64,
    /// What the server says is left, and how many wait.
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
        let blame = (over > 0).then(|| format!("{} issued, {over} too many", self.issued.len()));
        let quantity = self.quantity.map_or_else(|| "no limit".to_owned(), |quantity| format!("limit {quantity}"));
        Check::of("over-issue", "never more coupons than the quantity", blame, format!("{} issued, {quantity}", self.issued.len()))
    }

    fn exactly_issued(&self) -> Check {
        const ID: &str = "exactly-issued";
        const RULE: &str = "no coupon is left over while someone asked in vain";
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
        const RULE: &str = "coupons are numbered 1, 2, 3 … without repeat or hole";
        let issues = self.issues();
        let twice = repeated(issues.iter().map(|issue| issue.number));
        let (holes, strays) = holes_and_strays(&issues);
        let mut blames = Vec::new();
        if !twice.is_empty() {
            blames.push(format!("given twice: {}", some_of(&twice)));
        }
        // Behind an unknown outcome a number may be taken without anyone here having seen it.
        if self.unresolved == 0 && (!holes.is_empty() || !strays.is_empty()) {
            blames.push(format!("missing: {}; outside 1..{}: {}", some_of(&holes), issues.len(), some_of(&strays)));
        }
        let blame = (!blames.is_empty()).then(|| blames.join("; "));
        Check::of(ID, RULE, blame, format!("{} numbers", issues.len()))
    }

    fn once_each(&self) -> Check {
        let twice = members_issued_twice(&self.issues());
        let blame = (!twice.is_empty()).then(|| format!("members with two: {}", some_of(&twice)));
        Check::of("once-each", "nobody is issued the coupon twice", blame, format!("{} issues", self.issued.len()))
    }

    fn first_come(&self) -> Check {
        let winners: Vec<Span> = self.issued.iter().map(|(span, _)| *span).collect();
        let refused: Vec<Span> = self.sold_out.iter().copied().chain(self.waiting.iter().map(|(span, _)| *span)).collect();
        let late = late_winners(&winners, &refused);
        let numbered: Vec<(Span, i64)> = self.issued.iter().map(|(span, issue)| (*span, issue.number)).collect();
        let crossed = out_of_order(&numbered);
        let mut blames = Vec::new();
        if !late.is_empty() {
            blames.push(format!("{} got a coupon in a request begun after someone was told there is none left", late.len()));
        }
        if !crossed.is_empty() {
            let pairs: Vec<String> = crossed.iter().map(|(early, late)| format!("{early} before {late}")).collect();
            blames.push(format!("numbers against the order of time: {}", some_of(&pairs)));
        }
        let blame = (!blames.is_empty()).then(|| blames.join("; "));
        let evidence = format!("{} winners against {} refused or waiting", winners.len(), refused.len());
        Check::of(
            "first-come",
            "who asks after others were told there is none left gets none; who asks earlier has the lower number",
            blame,
            evidence,
        )
    }

    fn tickets(&self) -> Check {
        let twice = repeated(self.waiting.iter().map(|(_, ticket)| *ticket));
        let crossed = out_of_order(&self.waiting);
        let mut blames = Vec::new();
        if !twice.is_empty() {
            blames.push(format!("given twice: {}", some_of(&twice)));
        }
        if !crossed.is_empty() {
            let pairs: Vec<String> = crossed.iter().map(|(early, late)| format!("{early} before {late}")).collect();
            blames.push(format!("against the order of time: {}", some_of(&pairs)));
        }
        let blame = (!blames.is_empty()).then(|| blames.join("; "));
        Check::of("tickets", "waiting tickets are unique and in order of arrival", blame, format!("{} tickets", self.waiting.len()))
    }

    fn counters(&self) -> Check {
        const ID: &str = "counters";
        const RULE: &str = "the server's own counts are those its clients saw";
        if self.unresolved > 0 {
            return Check::skipped(ID, RULE, format!("{} claims of unknown outcome", self.unresolved));
        }
        if self.server_remaining.is_none() && self.server_waiting.is_none() {
            return Check::skipped(ID, RULE, "the server shows no counts of this coupon");
        }
        let due = self.quantity.map(|quantity| quantity as i64 - self.issued.len() as i64);
        let mut blames = Vec::new();
        if let Some((says, due)) = self.server_remaining.zip(due).filter(|(says, due)| says != due) {
            blames.push(format!("it says {says} remain, clients say {due}"));
        }
        if let Some(says) = self.server_waiting.filter(|says| *says != self.waiting.len() as i64) {
            blames.push(format!("it says {says} wait, clients say {}", self.waiting.len()));
        }
        let says = |count: Option<i64>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let evidence = format!("remaining {}, waiting {}", says(self.server_remaining), says(self.server_waiting));
        Check::of(ID, RULE, (!blames.is_empty()).then(|| blames.join("; ")), evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    /// Three of five get a coupon, one after the other; the other two are told it is gone.
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
    fn an_honest_server_is_clean() {
        assert_eq!(violated(&honest()), Vec::<String>::new());
    }

    #[test]
    fn finds_a_planted_over_issue() {
        let mut planted = honest();
        let issue = Issue { member_id: Uuid::from_u128(9), issued_coupon_id: Uuid::from_u128(109), number: 4 };
        planted.issued.push((Span { begin: 28, end: 34 }, issue));
        planted.server_remaining = Some(-1);
        assert_eq!(violated(&planted), ["over-issue"]);
        assert_eq!(planted.over_issued(), 1);
    }

    #[test]
    fn finds_a_planted_under_issue_unless_someone_gave_up() {
        let mut planted = honest();
        planted.issued.pop();
        planted.server_remaining = Some(1);
        assert_eq!(violated(&planted), ["exactly-issued"]);
        planted.never_claimed = 1;
        assert_eq!(violated(&planted), Vec::<String>::new());
    }

    #[test]
    fn finds_a_planted_repeat_and_hole() {
        let mut planted = honest();
        planted.issued[2].1.number = 2;
        assert_eq!(violated(&planted), ["numbers"]);
    }

    #[test]
    fn finds_a_planted_late_winner() {
        let mut planted = honest();
        planted.issued[2].0 = Span { begin: 36, end: 50 };
        assert_eq!(violated(&planted), ["first-come"]);
    }

    #[test]
    fn finds_numbers_and_tickets_against_time() {
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
    fn finds_a_member_with_two_and_counters_that_lie() {
        let mut planted = honest();
        planted.issued[2].1.member_id = planted.issued[0].1.member_id;
        assert_eq!(violated(&planted), ["once-each"]);
        let lying = ClaimsEvidence { server_remaining: Some(1), ..honest() };
        assert_eq!(violated(&lying), ["counters"]);
    }
}
