//! Verifies the acknowledgements of an earlier run: after a crash, a restart, a restored backup.

use super::ScenarioRun;
use crate::{RushError, acks};
use std::path::Path;

pub fn run(path: &Path, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let acks = acks::read(path)?;
    run.add_fact("acknowledgements", acks.len());
    run.read_back(&acks)
}
