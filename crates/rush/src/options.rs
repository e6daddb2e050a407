//! What a rush is asked to do.

use std::{fmt, path::PathBuf, time::Duration};

/// Runs after the load and names every broken invariant of the server's databases; `Err` when it could not run.
pub type Audit = Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

pub struct RushOptions {
    pub scenario: Scenario,
    /// `http://host:port` of the server; of several, with commas between, each gets its share of the connections.
    pub url: String,
    /// JSON lines `{member_id, email, access_token}`; not needed for the floor.
    pub tokens: Option<PathBuf>,
    /// Creates the coupon and the product; needed for claims, checkout and mixed.
    pub operator: Option<Operator>,
    /// How many of the shoppers take part; all when absent.
    pub members: Option<usize>,
    /// Connections, each with one request at a time.
    pub concurrency: usize,
    /// Load threads. One is cheapest and enough for more than 100,000 requests a second.
    pub threads: usize,
    /// How long one shopper goes on asking while the server sheds, drops connections or is away.
    pub patience: Duration,
    /// Read every acknowledged claim and order back after the load.
    pub read_back: bool,
    /// Where `report.json`, `report.html` and `acks.jsonl` go.
    pub out: Option<PathBuf>,
    /// The servers' processes, for their CPU time and peak memory, added up (Linux).
    pub server_pids: Vec<u32>,
    /// What an acknowledgement of this server promises, in one sentence for the report.
    pub durability: Option<String>,
    /// Requests a second of a bare server measured just before, for the ratio.
    pub floor_per_second: Option<f64>,
    /// Show progress on the terminal (never when standard error is not one).
    pub progress: bool,
    pub audit: Option<Audit>,
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
            floor_per_second: None,
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
pub enum Operator {
    Token(String),
    Credentials { email: String, password: String },
}

/// Written by hand: a password must not reach a log through `{:?}`.
impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operator::Token(_) => "Token(…)",
            Operator::Credentials { .. } => "Credentials(…)",
        })
    }
}

#[derive(Clone, Debug)]
pub enum Scenario {
    /// Everyone claims one coupon.
    Claims(Claims),
    /// Everyone orders one unit of one product, with coupon, points and wallet.
    Checkout(Checkout),
    /// Everyone looks around, claims and orders: 60 % reads, 20 % claims, 20 % orders.
    Mixed(Mixed),
    /// One GET again and again: what the same client gets from a server that does nothing.
    Floor(Floor),
    /// Reads back what an earlier run was promised, from its `acks.jsonl`.
    Verify { acks: PathBuf },
}

impl Scenario {
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Claims(_) => "claims",
            Scenario::Checkout(_) => "checkout",
            Scenario::Mixed(_) => "mixed",
            Scenario::Floor(_) => "floor",
            Scenario::Verify { .. } => "verify",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Claims {
    pub quantity: u64,
    pub waitlist: bool,
    /// After everyone has claimed, the same members go on asking for this long: the rate of refusals.
    pub ask_again: Duration,
    /// The first-come strategy the server runs, for the report: it is a setting of the server, not of a coupon.
    pub strategy: Option<String>,
    /// Claims ask to be answered before they are settled; each turn goes on until its claim is.
    pub respond_async: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self { quantity: 100, waitlist: false, ask_again: Duration::ZERO, strategy: None, respond_async: false }
    }
}

#[derive(Clone, Debug)]
pub struct Checkout {
    pub stock: u64,
    /// `None`: an unlimited coupon. A shopper who gets none orders without.
    pub coupon_quantity: Option<u64>,
    pub price: i64,
    pub discount: i64,
    /// Points each order uses; 0 for none.
    pub points: i64,
}

impl Default for Checkout {
    fn default() -> Self {
        Self { stock: 100, coupon_quantity: None, price: 10_000, discount: 1_000, points: 100 }
    }
}

#[derive(Clone, Debug)]
pub struct Mixed {
    pub quantity: u64,
    pub stock: u64,
    pub price: i64,
    pub points: i64,
}

impl Default for Mixed {
    fn default() -> Self {
        Self { quantity: 1_000, stock: 1_000, price: 10_000, points: 100 }
    }
}

#[derive(Clone, Debug)]
pub struct Floor {
    pub path: String,
    pub duration: Duration,
}

impl Default for Floor {
    fn default() -> Self {
        Self { path: "/".to_owned(), duration: Duration::from_secs(5) }
    }
}
