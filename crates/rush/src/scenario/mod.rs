//! The scenarios: what is set up, which loads are played one after the other, and what is held against their answers.

mod checkout;
mod claim;
mod claims;
mod floor;
mod mixed;
mod order;
mod read_back;
mod verify;

use crate::{
    Report, RushError, RushOptions, Scenario,
    acks::{self, Ack},
    check::{self, Check},
    clock::{Epoch, wall_clock},
    engine::{self, Driven, Load, plan::Plan, tally::Tally, wire::Target},
    report::{Fact, Phase, Totals, Verdict},
    setup::Caller,
    shoppers::{self, Shopper},
    system::Machine,
};
use contracts::Timestamp;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;

pub fn play(options: &RushOptions) -> Result<Report, RushError> {
    let mut stage = Stage::new(options)?;
    match &options.scenario {
        Scenario::Claims(claims) => claims::play(claims, &mut stage)?,
        Scenario::Checkout(checkout) => checkout::play(checkout, &mut stage)?,
        Scenario::Mixed(mixed) => mixed::play(mixed, &mut stage)?,
        Scenario::Floor(floor) => floor::play(floor, &mut stage)?,
        Scenario::Verify { acks } => verify::play(acks, &mut stage)?,
    }
    Ok(stage.finish())
}

/// What every scenario works with and adds to.
pub struct Stage<'a> {
    pub options: &'a RushOptions,
    pub load: Load,
    pub started_at: Timestamp,
    pub shoppers: Arc<Vec<Shopper>>,
    pub facts: Vec<Fact>,
    pub phases: Vec<Phase>,
    pub totals: Totals,
    pub checks: Vec<Check>,
    pub notes: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(options: &'a RushOptions) -> Result<Self, RushError> {
        let targets: Vec<Arc<Target>> =
            options.url.split(',').map(|url| Target::parse(url.trim()).map(Arc::new)).collect::<Result<_, _>>()?;
        let shoppers = match (&options.scenario, &options.tokens) {
            (Scenario::Floor(_), _) => Vec::new(),
            (_, Some(path)) => shoppers::read(path, options.members)?,
            (_, None) => return Err(RushError::Missing("a file of shoppers with their tokens")),
        };
        let load = Load {
            targets,
            epoch: Epoch::start(),
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
        })
    }

    /// Names this run in what it creates and in its idempotency keys.
    pub fn run_name(&self) -> String {
        format!("rush-{}-{}", self.started_at.0, std::process::id())
    }

    /// A caller with the operator's rights.
    pub fn operator(&self) -> Result<Caller, RushError> {
        let operator = self.options.operator.as_ref().ok_or(RushError::Missing("an operator: a token, or e-mail and password"))?;
        let mut caller = Caller::new(Arc::clone(&self.load.targets[0]))?;
        caller.sign_in(operator)?;
        Ok(caller)
    }

    pub fn fact(&mut self, name: &str, value: impl ToString) {
        self.facts.push(Fact::new(name, value));
    }

    /// Plays one load to its end and adds it to the report.
    pub fn phase<P: Plan>(&mut self, name: &str, plan: &Arc<P>, turns_shown: u64) -> Result<Tally<P::Seen>, RushError> {
        let bar = self.bar(name, plan.turns().map_or(turns_shown, u64::from));
        let driven: Driven<P::Seen> = engine::drive(Arc::clone(plan), &self.load, &bar)?;
        bar.finish_and_clear();
        let phase = Phase::of(name, &driven, plan.operations(), self.options.floor_per_second);
        self.totals.server_errors += phase.troubles.server_errors;
        self.totals.shed += phase.troubles.shed;
        self.phases.push(phase);
        Ok(driven.tally)
    }

    fn bar(&self, name: &str, length: u64) -> ProgressBar {
        if !self.options.progress {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg:12} {bar:32} {pos}/{len} {per_sec} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws to standard error, and not at all when that is no terminal.
        ProgressBar::new(length).with_style(style).with_message(name.to_owned())
    }

    /// Keeps the acknowledgements on disk, then reads each back.
    pub fn keep_and_read_back(&mut self, acks: &[Ack]) -> Result<(), RushError> {
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
        let plan = Arc::new(read_back::ReadEach::new(acks, &self.shoppers));
        let read = if plan.is_empty() { plan.summary(&Tally::new(1)) } else { plan.summary(&self.phase("read back", &plan, 0)?) };
        self.totals.lost_acknowledgements = Some(read.broken.len() as u64 + read.unread);
        self.checks.push(check::lost_acknowledgements(Some(&read)));
        Ok(())
    }

    /// How the turns of a phase ended, by its name.
    pub fn ends_of(&self, name: &str) -> Vec<(String, u64)> {
        self.phases.iter().filter(|phase| phase.name == name).flat_map(Phase::ends).collect()
    }

    fn finish(mut self) -> Report {
        let answers = self.phases.iter().map(|phase| phase.turns).sum();
        self.checks.push(check::server_errors(self.totals.server_errors, answers));
        if let Some(audit) = &self.options.audit {
            const RULE: &str = "the server's databases hold every invariant";
            self.checks.push(match audit() {
                Ok(found) => {
                    Check::of("audit", RULE, (!found.is_empty()).then(|| check::numbers::some_of(&found)), "no row found".to_owned())
                }
                Err(reason) => Check::of("audit", RULE, Some(format!("the audit did not run: {reason}")), String::new()),
            });
        }
        self.notes.push(
            "Closed loop: each connection has one request at a time, so a slow server is asked less often. Latency is of the request that was \
             answered; turns that had to be repeated are shown apart with all their waiting."
                .to_owned(),
        );
        let durability = self.options.durability.clone();
        Report {
            scenario: self.options.scenario.name().to_owned(),
            started_at: self.started_at,
            url: self.load.targets.iter().map(|target| target.url.as_str()).collect::<Vec<_>>().join(", "),
            machine: Machine::look(),
            members: self.shoppers.len(),
            concurrency: self.load.connections,
            threads: self.load.threads,
            facts: self.facts,
            phases: self.phases,
            totals: self.totals,
            verdict: Verdict::of(&self.checks),
            checks: self.checks,
            durability: durability.unwrap_or_else(|| "not stated for this server; kill it in mid-run and verify to find out".to_owned()),
            notes: self.notes,
            floor_per_second: self.options.floor_per_second,
        }
    }
}
