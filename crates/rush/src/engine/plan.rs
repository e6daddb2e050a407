//! What a scenario tells the engine: which request a turn begins with, and what its answer means.

use super::wire::{Answer, Call};
use contracts::Code;
use serde::Deserialize;
use std::{borrow::Cow, time::Duration};

pub trait Plan: Send + Sync + 'static {
    /// What is kept of a turn for the checks afterwards.
    type Seen: Send + 'static;

    /// Names of the kinds of turns, for the report.
    fn operations(&self) -> &'static [&'static str];
    fn operation(&self, _turn: u32) -> usize {
        0
    }
    /// How many turns there are; `None` when time decides.
    fn turns(&self) -> Option<u32>;
    /// The first request of a turn; `None` when there are no more turns.
    fn call(&self, turn: u32, elapsed_nanos: u64) -> Option<Call>;
    fn read(&self, turn: u32, answer: &Answer<'_>, trail: &Trail) -> Step<Self::Seen>;
    /// Patience ended without an answer.
    fn give_up(&self, turn: u32, trail: &Trail) -> Done<Self::Seen>;
}

/// What happened in a turn so far. Times are nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    pub first_begin: u64,
    /// When the request was begun that led to the answer at hand; follow-ups do not move it.
    pub answering_begin: u64,
    pub unknown_begin: Option<u64>,
    pub shed: u32,
    pub unknown: u32,
    /// Answered that the first request of this turn is still running.
    pub in_progress: u32,
    pub not_sent: u32,
    pub server_errors: u32,
    pub follow_ups: u32,
}

impl Trail {
    pub fn at(now: u64) -> Self {
        Self { first_begin: now, answering_begin: now, ..Self::default() }
    }
    /// The server may have acted on an earlier request of this turn although it did not say so.
    pub fn may_have_acted(&self) -> bool {
        self.unknown > 0 || self.shed > 0 || self.in_progress > 0
    }
}

pub enum Step<S> {
    Done(Done<S>),
    /// Another question is needed to know how the turn ended.
    Follow {
        call: Box<Call>,
        after: Duration,
    },
}

pub struct Done<S> {
    /// How the turn ended, in the words of the report: `issued`, or a problem's slug.
    pub label: &'static str,
    /// It gave what was asked for.
    pub won: bool,
    pub seen: Option<S>,
}

impl<S> Done<S> {
    pub fn won(label: &'static str, seen: S) -> Self {
        Self { label, won: true, seen: Some(seen) }
    }
    pub fn not(label: &'static str, seen: S) -> Self {
        Self { label, won: false, seen: Some(seen) }
    }
    /// Nothing is kept but the counts.
    pub fn plain(label: &'static str, won: bool) -> Self {
        Self { label, won, seen: None }
    }
}

#[derive(Deserialize)]
struct ProblemType<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// The name of a refusal: the slug of a problem this API knows, else the status.
pub fn refusal(answer: &Answer<'_>) -> &'static str {
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

/// How a turn without an answer is called.
pub fn gave_up(trail: &Trail) -> &'static str {
    if trail.unknown > 0 || trail.in_progress > 0 {
        "unknown"
    } else if trail.shed > 0 {
        "gave-up-overloaded"
    } else {
        "gave-up-no-connection"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer<'_> {
        Answer { status, retry_after: None, body: body.as_bytes() }
    }

    #[test]
    fn names_a_refusal_by_its_problem_type_and_else_by_its_status() {
        assert_eq!(refusal(&answer(409, r#"{"type":"/problems/sold-out","title":"…","status":409,"errors":[]}"#)), "sold-out");
        assert_eq!(refusal(&answer(409, r#"{"status":409,"type":"/problems/already-issued"}"#)), "already-issued");
        assert_eq!(refusal(&answer(404, r#"{"type":"about:blank"}"#)), "http-404");
        assert_eq!(refusal(&answer(500, "<html>")), "http-500");
        assert_eq!(refusal(&answer(502, "")), "http-5xx");
    }
}
