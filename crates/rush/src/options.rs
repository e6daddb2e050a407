//! Options of a rush: the scenario, the server, the shoppers, the load.

use crate::system::BuildProfile;
use std::{fmt, path::PathBuf, time::Duration};

/// Runs after the load and returns the violated invariants of the server's databases. `Err`: the audit could not run.
pub type AuditFn = Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

pub struct RushOptions {
    pub scenario: Scenario,
    /// `http://host:port` of the server. Several are separated by commas and share the connections.
    pub url: String,
    /// File with JSON lines `{member_id, email, access_token}`; not needed for the baseline.
    pub tokens: Option<PathBuf>,
    /// The operator who creates the coupon and the product; needed for claims, checkout, mixed and hostile.
    pub operator: Option<OperatorLogin>,
    /// Number of shoppers that take part. `None`: all.
    pub members: Option<usize>,
    /// Connections, each with one request at a time.
    pub concurrency: usize,
    /// Load threads. One is cheapest and enough for more than 100,000 requests a second.
    pub threads: usize,
    /// Time for which a shopper repeats a request while the server sheds load, drops connections or is down.
    pub patience: Duration,
    /// Read every acknowledged claim and order back after the load.
    pub read_back: bool,
    /// Directory for `report.json`, `report.html` and `acks.jsonl`.
    pub out: Option<PathBuf>,
    /// Process ids of the servers. Their CPU time and peak memory are summed (Linux).
    pub server_pids: Vec<u32>,
    /// Durability of an acknowledged request, in one sentence for the report.
    pub durability: Option<String>,
    /// Requests per second of a bare server, measured just before. The report shows the ratio.
    pub baseline_per_second: Option<f64>,
    /// Build of this process, for the report.
    pub profile: Option<BuildProfile>,
    /// Show progress on standard error if it is a terminal.
    pub progress: bool,
    pub audit: Option<AuditFn>,
}

impl RushOptions {
    pub fn new(scenario: Scenario, url: impl Into<String>) -> Self {
        Self {
            scenario,
            url: url.into(),
            tokens: None,
            operator: None,
            members: None,
            concurrency: 64,
            threads: 1,
            patience: Duration::from_secs(30),
            read_back: true,
            out: None,
            server_pids: Vec::new(),
            durability: None,
            baseline_per_second: None,
            profile: None,
            progress: true,
            audit: None,
        }
    }
}

impl fmt::Debug for RushOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RushOptions").field("scenario", &self.scenario).field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub enum OperatorLogin {
    Token(String),
    Credentials { email: String, password: String },
}

/// Written by hand, so that `{:?}` never writes a password into a log.
impl fmt::Debug for OperatorLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperatorLogin::Token(_) => "Token(…)",
            OperatorLogin::Credentials { .. } => "Credentials(…)",
        })
    }
}

#[derive(Clone, Debug)]
pub enum Scenario {
    /// Every shopper claims one coupon.
    Claims(ClaimsScenario),
    /// Every shopper orders one unit of one product, with coupon, points and wallet.
    Checkout(CheckoutScenario),
    /// Every shopper reads products, claims and orders: 60 % reads, 20 % claims, 20 % orders.
    Mixed(MixedScenario),
    /// Every shopper claims coupons, first undisturbed and then beside hostile clients.
    Hostile(HostileScenario),
    /// Repeats one GET against a bare server: the upper limit of this client (`floor` in the report).
    Baseline(BaselineScenario),
    /// Reads back the acknowledgements of an earlier run, from its `acks.jsonl`.
    Verify { acks: PathBuf },
}

impl Scenario {
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Claims(_) => "claims",
            Scenario::Checkout(_) => "checkout",
            Scenario::Mixed(_) => "mixed",
            Scenario::Hostile(_) => "hostile",
            Scenario::Baseline(_) => "floor",
            Scenario::Verify { .. } => "verify",
        }
    }
}

#[derive(Clone, Debug)]
pub struct ClaimsScenario {
    pub quantity: u64,
    pub waitlist: bool,
    /// Time for which the members claim again after all have claimed. Measures the rate of refusals.
    pub ask_again: Duration,
    /// The server's claim strategy, for the report. It is a setting of the server, not of a coupon.
    pub strategy: Option<String>,
    /// Sends claims with `Prefer: respond-async`. Each iteration polls until its claim is settled.
    pub respond_async: bool,
}

impl Default for ClaimsScenario {
    fn default() -> Self {
        Self { quantity: 100, waitlist: false, ask_again: Duration::ZERO, strategy: None, respond_async: false }
    }
}

#[derive(Clone, Debug)]
pub struct CheckoutScenario {
    pub stock: u64,
    /// `None`: an unlimited coupon. A shopper without a coupon orders without one.
    pub coupon_quantity: Option<u64>,
    pub price: i64,
    pub discount: i64,
    /// Points used by each order. 0: none.
    pub points: i64,
}

impl Default for CheckoutScenario {
    fn default() -> Self {
        Self { stock: 100, coupon_quantity: None, price: 10_000, discount: 1_000, points: 100 }
    }
}

#[derive(Clone, Debug)]
pub struct MixedScenario {
    pub quantity: u64,
    pub stock: u64,
    pub price: i64,
    pub points: i64,
}

impl Default for MixedScenario {
    fn default() -> Self {
        Self { quantity: 1_000, stock: 1_000, price: 10_000, points: 100 }
    }
}

#[derive(Clone, Debug)]
pub struct HostileScenario {
    /// Products created before the claims, among which the hostile clients search.
    pub products: u32,
    /// Coupons that every shopper claims alone, and as many beside the hostile clients. Each has a unit for every shopper.
    pub coupons: u32,
    /// Connections that search for random texts, each at once after the last answer.
    pub searchers: usize,
    /// Connections that stay open after one request.
    pub idle: usize,
}

impl Default for HostileScenario {
    fn default() -> Self {
        Self { products: 20_000, coupons: 10, searchers: 64, idle: 256 }
    }
}

#[derive(Clone, Debug)]
pub struct BaselineScenario {
    pub path: String,
    pub duration: Duration,
}

impl Default for BaselineScenario {
    fn default() -> Self {
        Self { path: "/".to_owned(), duration: Duration::from_secs(5) }
    }
}
