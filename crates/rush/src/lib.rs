//! The load generator: plays a rush against a running server over real HTTP, measures it, and checks from the outside that the answers
//! can all be true at once.
//!
//! It knows the server only by its public API. It never reads the server's database and never starts or stops the server.
//! Way through: [`run`] → a scenario (`scenario/*`) → [`engine`] (connections in a closed loop) → [`check`] (pure verdicts) → [`report`].

mod acks;
pub mod check;
mod clock;
mod engine;
mod error;
mod options;
pub mod report;
mod scenario;
mod setup;
mod shoppers;
mod system;

pub use engine::histogram::Histogram;
pub use error::RushError;
pub use options::{Audit, Checkout, Claims, Floor, Mixed, Operator, RushOptions, Scenario};
pub use report::Report;

use std::io::Write;

/// Plays a scenario, prints its table to `out`, and writes `report.json` and `report.html` into the options' directory.
///
/// Blocks the calling thread until the load has ended, and starts its own runtimes: from async code, call it in `spawn_blocking`.
/// A rush whose answers contradict the rules is not an error: look at [`Report::verdict`].
pub fn run(options: &RushOptions, out: &mut dyn Write) -> Result<Report, RushError> {
    let report = scenario::play(options)?;
    report::table::print(&report, out).map_err(|source| RushError::Output { what: "the table".to_owned(), source })?;
    if let Some(directory) = &options.out {
        report::files::write(&report, directory)?;
    }
    Ok(report)
}
