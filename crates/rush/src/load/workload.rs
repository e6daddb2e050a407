//! Interface between a scenario and the load loop: the requests of each iteration, and the meaning of their answers.

use super::connection::{PreparedRequest, ServerAnswer};
use contracts::Code;
use serde::Deserialize;
use std::{borrow::Cow, time::Duration};

pub trait Workload: Send + Sync + 'static {
    /// Result of an iteration that the checks need afterwards.
    type Observation: Send + 'static;

    /// Names of the operations, for the report.
    fn operations(&self) -> &'static [&'static str];
    /// Index of the iteration's operation in [`Workload::operations`].
    fn operation(&self, _iteration: u32) -> usize {
        0
    }
    /// Number of iterations. `None`: the run is limited by time.
    fn iterations(&self) -> Option<u32>;
    /// The first request of an iteration. `None`: the run has ended.
    fn first_request(&self, iteration: u32, elapsed_nanos: u64) -> Option<PreparedRequest>;
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<Self::Observation>;
    /// Ends an iteration whose `patience` ended without an answer.
    fn give_up(&self, iteration: u32, attempts: &IterationAttempts) -> Finished<Self::Observation>;
}

/// Attempts of an iteration so far. Times are nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct IterationAttempts {
    pub first_begin: u64,
    /// Begin of the request that led to the current answer. Follow-ups do not change it.
    pub answering_begin: u64,
    /// Begin of the first request of unknown outcome.
    pub unknown_begin: Option<u64>,
    pub shed: u32,
    pub unknown: u32,
    /// Answers that the first request of this iteration is still running.
    pub in_progress: u32,
    pub not_sent: u32,
    pub server_errors: u32,
    pub follow_ups: u32,
}

impl IterationAttempts {
    pub fn at(now: u64) -> Self {
        Self { first_begin: now, answering_begin: now, ..Self::default() }
    }
    /// The server may have executed an earlier request of this iteration without an answer.
    pub fn may_have_acted(&self) -> bool {
        self.unknown > 0 || self.shed > 0 || self.in_progress > 0
    }
}

pub enum NextStep<S> {
    Finish(Finished<S>),
    /// A follow-up request is needed to learn the outcome.
    Follow {
        request: Box<PreparedRequest>,
        after: Duration,
    },
}

/// End of an iteration.
pub struct Finished<S> {
    /// Outcome of the iteration, as the report shows it: `issued`, or the slug of a problem.
    pub label: &'static str,
    /// The shopper got the requested thing.
    pub won: bool,
    pub observation: Option<S>,
}

impl<S> Finished<S> {
    pub fn won(label: &'static str, observation: S) -> Self {
        Self { label, won: true, observation: Some(observation) }
    }
    pub fn not_won(label: &'static str, observation: S) -> Self {
        Self { label, won: false, observation: Some(observation) }
    }
    /// An end that only the counts need.
    pub fn unobserved(label: &'static str, won: bool) -> Self {
        Self { label, won, observation: None }
    }
}

#[derive(Deserialize)]
struct ProblemType<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// Label of a refusal: the problem's slug if this API defines it, else the status.
pub fn refusal_label(answer: &ServerAnswer<'_>) -> &'static str {
    let problem = serde_json::from_slice::<ProblemType<'_>>(answer.body).ok();
    let slug = problem.as_ref().map(|problem| problem.kind.trim_start_matches("/problems/"));
    slug.and_then(Code::from_slug).map_or_else(|| status_name(answer.status), Code::slug)
}

fn status_name(status: u16) -> &'static str {
    match status {
        200..=299 => "unexpected-success",
        300..=399 => "http-3xx",
        400 => "http-400",
        401 => "http-401",
        403 => "http-403",
        404 => "http-404",
        409 => "http-409",
        422 => "http-422",
        500 => "http-500",
        501.. => "http-5xx",
        _ => "http-4xx",
    }
}

/// Label of an iteration that was given up.
pub fn give_up_label(attempts: &IterationAttempts) -> &'static str {
    if attempts.unknown > 0 || attempts.in_progress > 0 {
        "unknown"
    } else if attempts.shed > 0 {
        "gave-up-overloaded"
    } else {
        "gave-up-no-connection"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ServerAnswer<'_> {
        ServerAnswer { status, retry_after: None, body: body.as_bytes() }
    }

    #[test]
    fn a_refusal_is_named_by_problem_type_or_else_by_status() {
        assert_eq!(refusal_label(&answer(409, r#"{"type":"/problems/sold-out","title":"…","status":409,"errors":[]}"#)), "sold-out");
        assert_eq!(refusal_label(&answer(409, r#"{"status":409,"type":"/problems/already-issued"}"#)), "already-issued");
        assert_eq!(refusal_label(&answer(404, r#"{"type":"about:blank"}"#)), "http-404");
        assert_eq!(refusal_label(&answer(500, "<html>")), "http-500");
        assert_eq!(refusal_label(&answer(502, "")), "http-5xx");
    }
}
