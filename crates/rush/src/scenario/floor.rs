//! One GET for a while: what this client gets from a server that does nothing, or from a page that is only read.

use super::Stage;
use crate::{
    Floor, RushError,
    check::Check,
    engine::{
        plan::{self, Done, Plan, Step, Trail},
        wire::{Answer, Call},
    },
};
use http::Uri;
use std::{sync::Arc, time::Duration};

struct GetAgain {
    call: Call,
    duration: Duration,
}

impl Plan for GetAgain {
    type Seen = ();

    fn operations(&self) -> &'static [&'static str] {
        &["get"]
    }
    fn turns(&self) -> Option<u32> {
        None
    }
    fn call(&self, _turn: u32, elapsed_nanos: u64) -> Option<Call> {
        (u128::from(elapsed_nanos) < self.duration.as_nanos()).then(|| self.call.clone())
    }
    fn read(&self, _turn: u32, answer: &Answer<'_>, _trail: &Trail) -> Step<()> {
        Step::Done(if (200..300).contains(&answer.status) { Done::plain("ok", true) } else { Done::plain(plan::refusal(answer), false) })
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<()> {
        Done::plain(plan::gave_up(trail), false)
    }
}

pub fn play(floor: &Floor, stage: &mut Stage<'_>) -> Result<(), RushError> {
    let uri: Uri = floor.path.parse().map_err(|_| RushError::Url(floor.path.clone()))?;
    stage.fact("path", &floor.path);
    let plan = Arc::new(GetAgain { call: Call::get(uri, None), duration: floor.duration });
    let tally = stage.phase("floor", &plan, u64::try_from(floor.duration.as_millis()).unwrap_or(u64::MAX))?;
    let (good, all) = (tally.ended("ok"), tally.turns);
    let blame = (good == 0 || good < all).then(|| format!("{} of {all} were not", all - good));
    stage.checks.push(Check::of("all-ok", "every answer is a success", blame, format!("{all} answers")));
    Ok(())
}
