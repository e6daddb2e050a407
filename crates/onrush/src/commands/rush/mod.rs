//! `onrush rush`: load scenarios over real HTTP. Without `--url` it brings its own mall: a fresh folder, seeded shoppers, a server process, a
//! bare server for the floor in the same run, and an audit at the end.

mod stage;

use super::{CommandError, audit::when_quiet, say};
use crate::settings::{Given, Settings};
use clap::{Args, Subcommand};
use rush::{Checkout, Claims, Floor, Mixed, Operator, Report, RushOptions, Scenario};
use stage::{Shape, Stage};
use std::{path::PathBuf, process::ExitCode, time::Duration};

#[derive(Args)]
pub struct Rush {
    #[command(subcommand)]
    scenario: ScenarioCommand,
}

#[derive(Subcommand)]
enum ScenarioCommand {
    /// Everyone claims one coupon
    Claims {
        #[command(flatten)]
        common: Common,
        /// Coupons to give out
        #[arg(long, default_value_t = 100)]
        quantity: u64,
        /// Let those who come too late wait
        #[arg(long)]
        waitlist: bool,
        /// Seconds of asking again after everyone has claimed: the rate of refusals
        #[arg(long, default_value_t = 0)]
        ask_again: u64,
        /// Ask to be answered before the claims are settled (strategy redis, with Kafka), and go on until they are
        #[arg(long)]
        respond_async: bool,
    },
    /// Everyone orders one unit of one product, with coupon, points and wallet, in one call
    Checkout {
        #[command(flatten)]
        common: Common,
        /// Units in stock
        #[arg(long, default_value_t = 100)]
        stock: u64,
    },
    /// Everyone looks around, claims and orders
    Mixed {
        #[command(flatten)]
        common: Common,
    },
    /// Read back what an earlier run was promised
    Verify {
        #[command(flatten)]
        common: Common,
        /// The run's acks.jsonl
        #[arg(long)]
        acks: PathBuf,
    },
    /// A server that only says hello: the floor
    #[command(hide = true)]
    Hello {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
    },
}

#[derive(Args, Clone)]
struct Common {
    #[command(flatten)]
    given: Given,
    /// Address of a running mall, or of its processes with commas between; without it, a fresh one is started and thrown away.
    /// With --database-url that one is in a new database on the same server
    #[arg(long)]
    url: Option<String>,
    /// Processes of a mall of our own, each with all services
    #[arg(long, default_value_t = 1, conflicts_with = "apart")]
    replicas: u32,
    /// A mall of our own in four processes with some services each; needs --database-url and --kafka
    #[arg(long)]
    apart: bool,
    /// Shoppers that take part
    #[arg(long, default_value_t = 1_000)]
    members: u32,
    /// The shoppers' tokens, as `seed` wrote them; needed with --url
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// How claims are settled, on a mall of our own: group_commit, row_lock or redis
    #[arg(long)]
    strategy: Option<String>,
    /// Where report.json, report.html and acks.jsonl go
    #[arg(long)]
    out: Option<PathBuf>,
    /// Processes of the server, for their CPU time and memory; needed with --url only
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Leave out the measurement of a bare server before the scenario
    #[arg(long)]
    no_floor: bool,
}

impl Rush {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let (scenario, common) = match self.scenario {
            ScenarioCommand::Hello { listen } => return stage::say_hello(listen).await,
            ScenarioCommand::Claims { common, quantity, waitlist, ask_again, respond_async } => {
                let ask_again = Duration::from_secs(ask_again);
                (Scenario::Claims(Claims { quantity, waitlist, ask_again, strategy: None, respond_async }), common)
            }
            ScenarioCommand::Checkout { common, stock } => (Scenario::Checkout(Checkout { stock, ..Checkout::default() }), common),
            ScenarioCommand::Mixed { common } => (Scenario::Mixed(Mixed::default()), common),
            ScenarioCommand::Verify { common, acks } => (Scenario::Verify { acks }, common),
        };
        let report = tokio::task::spawn_blocking(move || play(scenario, common))
            .await
            .map_err(|error| CommandError::Other(format!("the rush broke off: {error}")))??;
        Ok(if report.verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn play(scenario: Scenario, common: Common) -> Result<Report, CommandError> {
    let mut options = RushOptions::new(scenario, common.url.clone().unwrap_or_default());
    options.members = Some(common.members as usize);
    options.concurrency = common.concurrency;
    options.out = common.out.clone();
    let mut given = common.given.clone();
    let stage = match &common.url {
        Some(_) => {
            if common.strategy.is_some() {
                return Err(CommandError::Other("--strategy is for a mall of our own; set claim_strategy on the server of --url".into()));
            }
            options.tokens = common.tokens.clone();
            options.server_pids.clone_from(&common.server_pid);
            None
        }
        None => {
            given.claim_strategy = common.strategy.clone().or(given.claim_strategy);
            let shape = if common.apart { Shape::Apart } else { Shape::Replicas(common.replicas) };
            let stage = Stage::set(&given, shape, common.members)?;
            options.url = stage.url.clone();
            options.tokens = Some(stage.tokens.clone());
            options.server_pids = stage.server_pids();
            given.clone_from(&stage.given);
            Some(stage)
        }
    };
    let settings = Settings::load(&given)?;
    if let (Scenario::Claims(claims), true) = (&mut options.scenario, stage.is_some()) {
        claims.strategy = Some(settings.claim_strategy.name().to_owned());
    }
    options.operator = settings.operator.clone().map(|(email, password)| Operator::Credentials { email, password });
    options.durability = Some(durability(&settings));
    if stage.is_some() && !common.no_floor {
        options.floor_per_second = Some(floor(common.concurrency)?);
    }
    if settings.postgres.is_some() || settings.database().exists() {
        let settings = settings.clone();
        let runtime = tokio::runtime::Handle::current();
        options.audit = Some(Box::new(move || runtime.block_on(audit_when_quiet(&settings))));
    }
    let report = rush::run(&options, &mut std::io::stdout().lock()).map_err(|error| CommandError::Other(error.to_string()))?;
    if let Some(out) = &common.out {
        say(format!("report: {}", out.join("report.html").display()));
    }
    Ok(report)
}

fn durability(settings: &Settings) -> String {
    match settings.synchronous {
        kit::db::Synchronous::Full => "An acknowledged request is on disk: it survives power loss.".into(),
        kit::db::Synchronous::Normal => {
            "An acknowledged request survives a crash of the process; power loss may take the last ones.".into()
        }
    }
}

/// Requests a second that the same client gets from a server that only says hello, on the same machine and in the same run.
fn floor(concurrency: usize) -> Result<f64, CommandError> {
    let hello = stage::Hello::start()?;
    let mut options = RushOptions::new(Scenario::Floor(Floor::default()), hello.url.clone());
    options.concurrency = concurrency;
    let report = rush::run(&options, &mut std::io::sink()).map_err(|error| CommandError::Other(error.to_string()))?;
    report.phases.first().map(|phase| phase.per_second).ok_or_else(|| CommandError::Other("the floor was not measured".into()))
}

/// How long the last messages and jobs may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits a moment for the last messages and jobs, then names what is violated.
async fn audit_when_quiet(settings: &Settings) -> Result<Vec<String>, String> {
    let report = when_quiet(settings, PATIENCE).await.map_err(|error| error.to_string())?;
    let mut found: Vec<String> =
        report.violations.iter().map(|violation| format!("{} {}: {}", violation.id, violation.title, violation.found.join("; "))).collect();
    found.extend(report.not_quiet.map(|unrest| format!("no quiet moment: {unrest}")));
    Ok(found)
}
