//! Repeats one GET for a fixed time: the upper limit of this client against a bare server, or the rate of a page that is only read.

use super::ScenarioRun;
use crate::{
    BaselineScenario, RushError,
    check::Check,
    load::{
        connection::{PreparedRequest, ServerAnswer},
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
    },
};
use http::Uri;
use std::{sync::Arc, time::Duration};

struct RepeatGet {
    request: PreparedRequest,
    duration: Duration,
}

impl Workload for RepeatGet {
    type Observation = ();

    fn operations(&self) -> &'static [&'static str] {
        &["get"]
    }
    fn iterations(&self) -> Option<u32> {
        None
    }
    fn first_request(&self, _iteration: u32, elapsed_nanos: u64) -> Option<PreparedRequest> {
        (u128::from(elapsed_nanos) < self.duration.as_nanos()).then(|| self.request.clone())
    }
    fn read_answer(&self, _iteration: u32, answer: &ServerAnswer<'_>, _attempts: &IterationAttempts) -> NextStep<()> {
        NextStep::Finish(if (200..300).contains(&answer.status) {
            Finished::unobserved("ok", true)
        } else {
            Finished::unobserved(workload::refusal_label(answer), false)
        })
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<()> {
        Finished::unobserved(workload::give_up_label(attempts), false)
    }
}

pub fn run(baseline: &BaselineScenario, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let uri: Uri = baseline.path.parse().map_err(|_| RushError::Url(baseline.path.clone()))?;
    run.add_fact("path", &baseline.path);
    let workload = Arc::new(RepeatGet { request: PreparedRequest::get(uri, None), duration: baseline.duration });
    let stats = run.run_phase("floor", &workload, u64::try_from(baseline.duration.as_millis()).unwrap_or(u64::MAX))?;
    let (good, all) = (stats.ended("ok"), stats.iterations);
    let violation = (good == 0 || good < all).then(|| format!("{} of {all} were not", all - good));
    run.checks.push(Check::of("all-ok", "every answer is a success", violation, format!("{all} answers")));
    Ok(())
}
