//! The load generator: runs a scenario against a running server over real HTTP, measures it, and checks that the answers are consistent.
//!
//! It uses only the server's public API. It never reads the server's database and never starts or stops the server.
//! Call path: [`run`] → a scenario (`scenario/*`) → [`load`] (connections in a closed loop) → [`check`] (pure rules) → [`report`].

mod acks;
pub mod check;
mod error;
mod load;
mod options;
pub mod report;
mod run_clock;
mod scenario;
mod setup;
mod shoppers;
mod system;

pub use error::RushError;
pub use load::histogram::Histogram;
pub use options::{
    AuditFn, BaselineScenario, CheckoutScenario, ClaimsScenario, HostileScenario, MixedScenario, OperatorLogin, RushOptions, Scenario,
};
pub use report::RushReport;
pub use system::BuildProfile;

use std::io::Write;

/// Runs a scenario, prints its table to `out`, and writes `report.json` and `report.html` into the options' directory.
///
/// Blocks the calling thread until the load has ended, and starts its own runtimes: from async code, call it in `spawn_blocking`.
/// Answers that violate a rule are not an `Err`. Read [`RushReport::verdict`].
pub fn run(options: &RushOptions, out: &mut dyn Write) -> Result<RushReport, RushError> {
    let report = scenario::run(options)?;
    report::table::print(&report, out).map_err(|source| RushError::Output { what: "the table".to_owned(), source })?;
    if let Some(directory) = &options.out {
        report::files::write(&report, directory)?;
    }
    Ok(report)
}
