//! The scenarios: their set-up, their loads, and the checks of the answers.

mod baseline;
mod checkout;
mod claim;
mod claims;
mod hostile;
mod mixed;
mod order;
mod read_back;
mod verify;

use crate::{
    RushError, RushOptions, RushReport, Scenario,
    acks::{self, Ack},
    check::{self, Check},
    load::{self, ClosedLoopOptions, LoadResult, connection::TargetServer, stats::Stats, workload::Workload},
    report::{Fact, PhaseReport, RushVerdict, Totals},
    run_clock::{RunClock, wall_clock},
    setup::SetupClient,
    shoppers::{self, Shopper},
    system::Machine,
};
use contracts::Timestamp;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;

pub fn run(options: &RushOptions) -> Result<RushReport, RushError> {
    let mut run = ScenarioRun::new(options)?;
    match &options.scenario {
        Scenario::Claims(claims) => claims::run(claims, &mut run)?,
        Scenario::Checkout(checkout) => checkout::run(checkout, &mut run)?,
        Scenario::Mixed(mixed) => mixed::run(mixed, &mut run)?,
        Scenario::Hostile(hostile) => hostile::run(hostile, &mut run)?,
        Scenario::Baseline(baseline) => baseline::run(baseline, &mut run)?,
        Scenario::Verify { acks } => verify::run(acks, &mut run)?,
    }
    Ok(run.finish())
}

/// State of a running scenario, which becomes the report.
pub struct ScenarioRun<'a> {
    pub options: &'a RushOptions,
    pub load: ClosedLoopOptions,
    pub started_at: Timestamp,
    pub shoppers: Arc<Vec<Shopper>>,
    pub facts: Vec<Fact>,
    pub phases: Vec<PhaseReport>,
    pub totals: Totals,
    pub checks: Vec<Check>,
    pub notes: Vec<String>,
    pub claims_ratio: Option<f64>,
}

impl<'a> ScenarioRun<'a> {
    fn new(options: &'a RushOptions) -> Result<Self, RushError> {
        let targets: Vec<Arc<TargetServer>> =
            options.url.split(',').map(|url| TargetServer::parse(url.trim()).map(Arc::new)).collect::<Result<_, _>>()?;
        let shoppers = match (&options.scenario, &options.tokens) {
            (Scenario::Baseline(_), _) => Vec::new(),
            (_, Some(path)) => shoppers::read(path, options.members)?,
            (_, None) => return Err(RushError::Missing("a file of shoppers with their tokens")),
        };
        let load = ClosedLoopOptions {
            targets,
            clock: RunClock::start(),
            connections: options.concurrency.max(1),
            threads: options.threads.max(1),
            patience: options.patience,
            server_pids: options.server_pids.clone(),
        };
        Ok(Self {
            options,
            load,
            started_at: wall_clock(),
            shoppers: Arc::new(shoppers),
            facts: Vec::new(),
            phases: Vec::new(),
            totals: Totals::default(),
            checks: Vec::new(),
            notes: Vec::new(),
            claims_ratio: None,
        })
    }

    /// Name of this run, for the things it creates and for its idempotency keys.
    pub fn run_name(&self) -> String {
        format!("rush-{}-{}", self.started_at.0, std::process::id())
    }

    /// A client signed in as the operator.
    pub fn operator(&self) -> Result<SetupClient, RushError> {
        let operator = self.options.operator.as_ref().ok_or(RushError::Missing("an operator: a token, or e-mail and password"))?;
        let mut caller = SetupClient::new(Arc::clone(&self.load.targets[0]))?;
        caller.sign_in(operator)?;
        Ok(caller)
    }

    pub fn add_fact(&mut self, name: &str, value: impl ToString) {
        self.facts.push(Fact::new(name, value));
    }

    /// Runs one load to its end and adds it to the report.
    pub fn run_phase<P: Workload>(
        &mut self,
        name: &str,
        workload: &Arc<P>,
        progress_length: u64,
    ) -> Result<Stats<P::Observation>, RushError> {
        let progress_bar = self.progress_bar(name, workload.iterations().map_or(progress_length, u64::from));
        let load_result: LoadResult<P::Observation> = load::run_load(Arc::clone(workload), &self.load, &progress_bar)?;
        progress_bar.finish_and_clear();
        let phase = PhaseReport::of(name, &load_result, workload.operations(), self.options.baseline_per_second);
        self.totals.server_errors += phase.error_counts.server_errors;
        self.totals.shed += phase.error_counts.shed;
        self.phases.push(phase);
        Ok(load_result.stats)
    }

    fn progress_bar(&self, name: &str, length: u64) -> ProgressBar {
        if !self.options.progress {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg:12} {progress_bar:32} {pos}/{len} {per_sec} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws to standard error, and only if that is a terminal.
        ProgressBar::new(length).with_style(style).with_message(name.to_owned())
    }

    /// Writes the acknowledgements to disk, then reads each one back.
    pub fn write_acks_and_read_back(&mut self, acks: &[Ack]) -> Result<(), RushError> {
        if let Some(directory) = &self.options.out {
            acks::write(acks, directory)?;
        }
        if !self.options.read_back {
            self.checks.push(check::lost_acknowledgements(None));
            return Ok(());
        }
        self.read_back(acks)
    }

    pub fn read_back(&mut self, acks: &[Ack]) -> Result<(), RushError> {
        let workload = Arc::new(read_back::ReadBackEach::new(acks, &self.shoppers));
        let read = if workload.is_empty() {
            workload.summary(&Stats::new(1))
        } else {
            workload.summary(&self.run_phase("read back", &workload, 0)?)
        };
        self.totals.lost_acknowledgements = Some(read.broken.len() as u64 + read.unread);
        self.checks.push(check::lost_acknowledgements(Some(&read)));
        Ok(())
    }

    /// Outcome counts of a phase, by the name of the phase.
    pub fn ends_of(&self, name: &str) -> Vec<(String, u64)> {
        self.phases.iter().filter(|phase| phase.name == name).flat_map(PhaseReport::ends).collect()
    }

    fn finish(mut self) -> RushReport {
        let answers = self.phases.iter().map(|phase| phase.iterations).sum();
        self.checks.push(check::server_errors(self.totals.server_errors, answers));
        if let Some(audit) = &self.options.audit {
            const RULE: &str = "the server's databases hold every invariant";
            self.checks.push(match audit() {
                Ok(found) => {
                    Check::of("audit", RULE, (!found.is_empty()).then(|| check::numbers::first_few(&found)), "no row found".to_owned())
                }
                Err(reason) => Check::of("audit", RULE, Some(format!("the audit did not run: {reason}")), String::new()),
            });
        }
        self.notes.push(
            "Closed loop: each connection has one request at a time, so a slow server gets fewer requests. Latency is that of the answered \
             request. Repeated turns are shown separately, with all their waits."
                .to_owned(),
        );
        let durability = self.options.durability.clone();
        RushReport {
            scenario: self.options.scenario.name().to_owned(),
            started_at: self.started_at,
            url: self.load.targets.iter().map(|target| target.url.as_str()).collect::<Vec<_>>().join(", "),
            machine: Machine::look(),
            profile: self.options.profile.clone(),
            members: self.shoppers.len(),
            concurrency: self.load.connections,
            threads: self.load.threads,
            facts: self.facts,
            phases: self.phases,
            totals: self.totals,
            verdict: RushVerdict::of(&self.checks),
            checks: self.checks,
            durability: durability
                .unwrap_or_else(|| "not stated for this server; to find out, kill it during a run, start it and run verify".to_owned()),
            notes: self.notes,
            baseline_per_second: self.options.baseline_per_second,
            claims_ratio: self.claims_ratio,
        }
    }
}
