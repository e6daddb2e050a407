//! Rules about the answers that clients got. Pure: no IO, no clock.

pub mod claims;
pub mod history;
pub mod numbers;
pub mod orders;

use serde::{Deserialize, Serialize};

/// One rule, checked against a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Short and stable id for programs: `over-issue`, `lost-acknowledgements`.
    pub id: String,
    /// The rule, in one sentence.
    pub rule: String,
    #[serde(flatten)]
    pub state: CheckState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CheckState {
    /// `evidence` shows the compared counts, so that an empty comparison is visible.
    Held {
        evidence: String,
    },
    Violated {
        detail: String,
    },
    /// The rule could not be checked.
    Skipped {
        reason: String,
    },
}

impl Check {
    pub fn new(id: &str, rule: &str, state: CheckState) -> Self {
        Self { id: id.to_owned(), rule: rule.to_owned(), state }
    }
    /// Held if there is no violation.
    pub fn of(id: &str, rule: &str, violation: Option<String>, evidence: String) -> Self {
        let state = match violation {
            Some(detail) => CheckState::Violated { detail },
            None => CheckState::Held { evidence },
        };
        Self::new(id, rule, state)
    }
    pub fn skipped(id: &str, rule: &str, reason: impl Into<String>) -> Self {
        Self::new(id, rule, CheckState::Skipped { reason: reason.into() })
    }
    pub fn violation(&self) -> Option<String> {
        match &self.state {
            CheckState::Violated { detail } => Some(format!("{}: {detail}", self.id)),
            _ => None,
        }
    }
}

/// Result of reading every acknowledgement back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    pub acknowledged: u64,
    /// One line for each promise that is gone or different.
    pub broken: Vec<String>,
    /// Number of acknowledgements that could not be read.
    pub unread: u64,
}

/// Rule: every acknowledgement is still true.
pub fn lost_acknowledgements(read_back: Option<&ReadBack>) -> Check {
    const ID: &str = "lost-acknowledgements";
    const RULE: &str = "every acknowledged claim and order exists when read back";
    let Some(read) = read_back else { return Check::skipped(ID, RULE, "not read back in this run; verify the acknowledgements file") };
    let violation = match (read.broken.len(), read.unread) {
        (0, 0) => None,
        (0, unread) => Some(format!("{unread} of {} could not be read back", read.acknowledged)),
        (lost, unread) => {
            Some(format!("{lost} of {} lost or changed ({unread} unread): {}", read.acknowledged, numbers::first_few(&read.broken)))
        }
    };
    Check::of(ID, RULE, violation, format!("{} read back", read.acknowledged))
}

/// Rule: the server did not fail. Load shedding (503 and 429) is not a failure.
pub fn server_errors(count: u64, answers: u64) -> Check {
    let violation = (count > 0).then(|| format!("{count} answers of 500 and above"));
    Check::of("server-errors", "no answer of 500 or above, except 503 under load", violation, format!("{answers} answers"))
}

/// Rule: every iteration ended with an outcome that the scenario expects.
pub fn unexpected_answers(ends: &[(String, u64)], expected: &[&str]) -> Check {
    let strange: Vec<String> = ends
        .iter()
        // Unanswered iterations have their own count, failures of the server their own check.
        .filter(|(label, _)| !expected.contains(&label.as_str()) && !UNANSWERED.contains(&label.as_str()) && !label.starts_with("http-5"))
        .map(|(label, count)| format!("{label} × {count}"))
        .collect();
    let violation = (!strange.is_empty()).then(|| numbers::first_few(&strange));
    let total: u64 = ends.iter().map(|(_, count)| count).sum();
    Check::of("unexpected-answers", "every answer is one that this scenario expects", violation, format!("{total} turns"))
}

/// Labels of iterations without an answer.
pub const UNANSWERED: [&str; 3] = ["unknown", "gave-up-overloaded", "gave-up-no-connection"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_unread_acknowledgement_is_a_violation() {
        let clean = ReadBack { acknowledged: 3, ..ReadBack::default() };
        assert_eq!(lost_acknowledgements(Some(&clean)).violation(), None);
        let lost = ReadBack { broken: vec!["a is gone".to_owned()], ..clean.clone() };
        assert!(lost_acknowledgements(Some(&lost)).violation().unwrap().contains("a is gone"));
        let unread = ReadBack { unread: 1, ..clean };
        assert!(lost_acknowledgements(Some(&unread)).violation().unwrap().contains("1 of 3"));
        assert!(matches!(lost_acknowledgements(None).state, CheckState::Skipped { .. }));
    }

    #[test]
    fn unexpected_answers_and_failures_are_violations() {
        let ends = [("issued".to_owned(), 5), ("unauthenticated".to_owned(), 2), ("unknown".to_owned(), 1)];
        assert!(unexpected_answers(&ends, &["issued"]).violation().unwrap().contains("unauthenticated × 2"));
        assert_eq!(unexpected_answers(&ends[..1], &["issued"]).violation(), None);
        assert!(server_errors(1, 10).violation().is_some());
        assert_eq!(server_errors(0, 10).violation(), None);
    }
}
