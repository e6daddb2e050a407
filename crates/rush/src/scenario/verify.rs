//! Holds a server to what it promised in an earlier run: after a crash, a restart, a restored backup.

use super::Stage;
use crate::{RushError, acks};
use std::path::Path;

pub fn play(path: &Path, stage: &mut Stage<'_>) -> Result<(), RushError> {
    let acks = acks::read(path)?;
    stage.fact("acknowledgements", acks.len());
    stage.read_back(&acks)
}
