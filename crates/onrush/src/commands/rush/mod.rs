//! `onrush rush`: load scenarios over real HTTP. Without `--url`, it starts a test mall: a new folder, seeded shoppers, a server process,
//! a bare server for the baseline in the same run, and an audit at the end. The test mall has no limits, unless `--limits` gives them.

mod build_profile;
mod test_mall;

use super::{CommandError, audit::audit_when_quiet, print_line};
use crate::settings::{RawLimits, RawSettings, Settings};
use clap::{Args, Subcommand};
use rush::{
    BaselineScenario, CheckoutScenario, ClaimsScenario, HostileScenario, MixedScenario, OperatorLogin, RushOptions, RushReport, Scenario,
};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use test_mall::{MallLayout, TestMall};

#[derive(Args)]
pub struct RushArgs {
    #[command(subcommand)]
    scenario: ScenarioCommand,
}

#[derive(Subcommand)]
enum ScenarioCommand {
    /// All shoppers claim one coupon
    Claims {
        #[command(flatten)]
        common: CommonArgs,
        /// Coupons to issue
        #[arg(long, default_value_t = 100)]
        quantity: u64,
        /// Put late claims on a waitlist
        #[arg(long)]
        waitlist: bool,
        /// Seconds of further claims after all shoppers have claimed, which measures the rate of refusals
        #[arg(long, default_value_t = 0)]
        ask_again: u64,
        /// Send claims with Prefer: respond-async (strategy redis, with Kafka), and poll until they are settled
        #[arg(long)]
        respond_async: bool,
    },
    /// All shoppers order one unit of one product, with coupon, points and wallet, in one request
    Checkout {
        #[command(flatten)]
        common: CommonArgs,
        /// Units in stock
        #[arg(long, default_value_t = 100)]
        stock: u64,
    },
    /// All shoppers read products, claim and order
    Mixed {
        #[command(flatten)]
        common: CommonArgs,
    },
    /// All shoppers claim coupons, alone and then beside hostile clients: searches, sign-ups, unpaid orders, refused requests
    Hostile {
        #[command(flatten)]
        common: CommonArgs,
        /// Products among which the hostile clients search
        #[arg(long, default_value_t = 20_000)]
        products: u32,
        /// Coupons that each shopper claims alone, and as many beside the hostile clients
        #[arg(long, default_value_t = 10)]
        coupons: u32,
    },
    /// Read back the acknowledgements of an earlier run
    Verify {
        #[command(flatten)]
        common: CommonArgs,
        /// The acks.jsonl of that run
        #[arg(long)]
        acks: PathBuf,
    },
    /// Serve only hello, as the baseline
    #[command(hide = true)]
    Hello {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
    },
}

#[derive(Args, Clone)]
struct CommonArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// Address of a running mall, or of its processes, separated by commas. Without it, a test mall is started and removed afterwards;
    /// with --database-url, it is in a new database on the same server
    #[arg(long)]
    url: Option<String>,
    /// Processes of the test mall, each with all services
    #[arg(long, default_value_t = 1, conflicts_with = "apart")]
    replicas: u32,
    /// Run the test mall in four processes with some services each; needs --database-url and --kafka
    #[arg(long)]
    apart: bool,
    /// Number of shoppers that take part
    #[arg(long, default_value_t = 1_000)]
    members: u32,
    /// File with the shoppers' tokens, as written by `seed`; needed with --url
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Claim strategy of the test mall: group_commit, row_lock or redis
    #[arg(long)]
    strategy: Option<String>,
    /// Directory for report.json, report.html and acks.jsonl
    #[arg(long)]
    out: Option<PathBuf>,
    /// Process ids of the server, for its CPU time and memory; needed only with --url
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Skip the measurement of a bare server before the scenario
    #[arg(long)]
    no_floor: bool,
}

impl RushArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let (scenario, common) = match self.scenario {
            ScenarioCommand::Hello { listen } => return test_mall::serve_hello(listen).await,
            ScenarioCommand::Claims { common, quantity, waitlist, ask_again, respond_async } => {
                let ask_again = Duration::from_secs(ask_again);
                (Scenario::Claims(ClaimsScenario { quantity, waitlist, ask_again, strategy: None, respond_async }), common)
            }
            ScenarioCommand::Checkout { common, stock } => {
                (Scenario::Checkout(CheckoutScenario { stock, ..CheckoutScenario::default() }), common)
            }
            ScenarioCommand::Mixed { common } => (Scenario::Mixed(MixedScenario::default()), common),
            ScenarioCommand::Hostile { common, products, coupons } => {
                (Scenario::Hostile(HostileScenario { products, coupons, ..HostileScenario::default() }), common)
            }
            ScenarioCommand::Verify { common, acks } => (Scenario::Verify { acks }, common),
        };
        let report = tokio::task::spawn_blocking(move || run_scenario(scenario, common))
            .await
            .map_err(|error| CommandError::Other(format!("the rush ended early: {error}")))??;
        Ok(if report.verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn run_scenario(scenario: Scenario, common: CommonArgs) -> Result<RushReport, CommandError> {
    let mut options = RushOptions::new(scenario, common.url.clone().unwrap_or_default());
    options.members = Some(common.members as usize);
    options.concurrency = common.concurrency;
    options.out = common.out.clone();
    options.profile = Some(build_profile::build_profile());
    let mut raw = common.raw.clone();
    let test_mall = match &common.url {
        Some(_) => {
            if common.strategy.is_some() {
                return Err(CommandError::Other("--strategy is for the test mall; set claim_strategy on the server of --url".into()));
            }
            options.tokens = common.tokens.clone();
            options.server_pids.clone_from(&common.server_pid);
            None
        }
        None => {
            raw.claim_strategy = common.strategy.clone().or(raw.claim_strategy);
            // All shoppers share the address of this machine, and a few hundred of them send the requests of a crowd.
            raw.limits.get_or_insert_with(RawLimits::off);
            let layout = if common.apart { MallLayout::Split } else { MallLayout::Replicas(common.replicas) };
            let test_mall = TestMall::start(&raw, layout, common.members)?;
            options.url = test_mall.url.clone();
            options.tokens = Some(test_mall.tokens.clone());
            options.server_pids = test_mall.server_pids();
            raw.clone_from(&test_mall.raw);
            Some(test_mall)
        }
    };
    let settings = Settings::load(&raw)?;
    if let (Scenario::Claims(claims), true) = (&mut options.scenario, test_mall.is_some()) {
        claims.strategy = Some(settings.claim_strategy.name().to_owned());
    }
    options.operator = settings.operator.clone().map(|(email, password)| OperatorLogin::Credentials { email, password });
    options.durability = Some(durability(&settings));
    if test_mall.is_some() && !common.no_floor {
        options.baseline_per_second = Some(measure_baseline(common.concurrency)?);
    }
    if settings.postgres.is_some() || settings.database().exists() {
        let settings = settings.clone();
        let runtime = tokio::runtime::Handle::current();
        options.audit = Some(Box::new(move || runtime.block_on(audit_violations(&settings))));
    }
    let report = rush::run(&options, &mut std::io::stdout().lock()).map_err(|error| CommandError::Other(error.to_string()))?;
    if let Some(out) = &common.out {
        print_line(format!("report: {}", out.join("report.html").display()));
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

/// Requests per second of the same client against a bare server, on the same machine and in the same run.
fn measure_baseline(concurrency: usize) -> Result<f64, CommandError> {
    let hello = test_mall::HelloServer::start()?;
    let mut options = RushOptions::new(Scenario::Baseline(BaselineScenario::default()), hello.url.clone());
    options.concurrency = concurrency;
    let report = rush::run(&options, &mut std::io::sink()).map_err(|error| CommandError::Other(error.to_string()))?;
    report.phases.first().map(|phase| phase.per_second).ok_or_else(|| CommandError::Other("the baseline was not measured".into()))
}

/// Maximum wait for the last messages and jobs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the last messages and jobs, then returns the violations.
async fn audit_violations(settings: &Settings) -> Result<Vec<String>, String> {
    let report = audit_when_quiet(settings, PATIENCE).await.map_err(|error| error.to_string())?;
    let mut found: Vec<String> =
        report.violations.iter().map(|violation| format!("{} {}: {}", violation.id, violation.title, violation.found.join("; "))).collect();
    found.extend(report.not_quiet.map(|not_quiet_reason| format!("no quiet moment: {not_quiet_reason}")));
    Ok(found)
}
