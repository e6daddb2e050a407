//! All shoppers claim coupons, first undisturbed and then beside hostile clients. The ratio of both rates tells how well claims are
//! protected.

use super::{
    ScenarioRun,
    claim::{ClaimObservation, ClaimPaths},
    claims::CouponClaims,
};
use crate::{
    HostileScenario, RushError,
    check::{self, Check},
    load::{
        connection::{PreparedRequest, ServerAnswer},
        crowd::{Crowd, CrowdGroup, RequestFn},
        stats::{IterationRecord, OperationStats},
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
    },
    report::OperationReport,
    setup::{CouponSetup, SetupClient},
    shoppers::Shopper,
};
use bytes::Bytes;
use http::{HeaderValue, Uri};
use serde_json::json;
use std::{sync::Arc, thread, time::Duration};
use uuid::Uuid;

const ALONE: &str = "claim alone";
const BESIDE: &str = "claim beside";
const SEED: &str = "add products";
/// Discount of the coupons in won. This scenario never uses it.
const DISCOUNT_WON: i64 = 1_000;
/// Time of the hostile clients before the claims begin, so that all of them are connected and busy.
const HEAD_START: Duration = Duration::from_secs(1);
/// Sign-ups: at most 20 a second. Each costs the server a slow hash of a password.
const SIGN_UPS: (usize, Duration) = (2, Duration::from_millis(100));
/// Orders without payment: at most 100 a second.
const ORDERS: (usize, Duration) = (2, Duration::from_millis(20));
/// Requests that the server refuses: at most 400 a second.
const REFUSED: (usize, Duration) = (4, Duration::from_millis(10));
/// An idle connection sends one request.
const IDLE_PAUSE: Duration = Duration::from_secs(24 * 3600);
const PRICE: i64 = 10_000;
/// More units than the unpaid orders of a run can hold.
const STOCK: u64 = 1_000_000;

pub fn run(hostile: &HostileScenario, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let mut operator = run.operator()?;
    let sku = operator.create_product(&format!("{} product", run.run_name()), PRICE, STOCK)?.sku;
    add_products(hostile.products, &operator, run)?;
    run.add_fact("products", hostile.products);
    run.add_fact("coupons of each phase", hostile.coupons);
    run.add_fact("searching connections", hostile.searchers);
    run.add_fact("idle connections", hostile.idle);
    let mut alone = claim_all(ALONE, hostile.coupons, &mut operator, run)?;
    let crowd = Crowd::start(groups(hostile, sku, run), run.load.targets.clone(), run.load.clock)?;
    thread::sleep(HEAD_START);
    let beside = claim_all(BESIDE, hostile.coupons, &mut operator, run);
    let counts = crowd.stop()?;
    alone.append(&mut beside?);
    run.claims_ratio = ratio(run);
    show_counts(&counts, run);
    judge_claims(alone, &mut operator, run)
}

/// Claims per second beside the hostile clients, divided by those alone.
fn ratio(run: &ScenarioRun<'_>) -> Option<f64> {
    let rate = |name: &str| run.phases.iter().find(|phase| phase.name == name).map(|phase| phase.per_second);
    Some(rate(BESIDE)? / rate(ALONE).filter(|rate| *rate > 0.0)?)
}

/// Adds the counts of the hostile clients to the phase of the claims beside them. A group without an answer attacked nothing.
fn show_counts(counts: &[(&'static str, OperationStats)], run: &mut ScenarioRun<'_>) {
    let unanswered: Vec<&str> = counts.iter().filter(|(_, stats)| stats.latency.count() == 0).map(|(name, _)| *name).collect();
    let violation = (!unanswered.is_empty()).then(|| format!("no answer to: {}", unanswered.join(", ")));
    let answers: u64 = counts.iter().map(|(_, stats)| stats.latency.count()).sum();
    run.checks.push(Check::of("hostility", "each kind of hostile client was answered", violation, format!("{answers} answers")));
    if let Some(phase) = run.phases.iter_mut().find(|phase| phase.name == BESIDE) {
        phase.operations.extend(counts.iter().map(|(name, stats)| OperationReport::of(name, stats)));
    }
}

/// Resolves and checks the claims of all coupons, then reads them back.
fn judge_claims(all: Vec<CouponClaims>, operator: &mut SetupClient, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let (mut issued, mut over_issued, mut acks) = (0, 0, Vec::new());
    for mut claims in all {
        let mut evidence = claims.resolve(run)?;
        (evidence.server_remaining, evidence.server_waiting) = operator.coupon_counts(claims.coupon_id)?;
        run.checks.extend(evidence.checks());
        run.totals.unknown_outcomes += evidence.unresolved;
        issued += evidence.issued.len() as u64;
        over_issued += evidence.over_issued();
        acks.extend(claims.acks(&run.shoppers));
    }
    run.totals.issued = Some(issued);
    run.totals.over_issued = Some(over_issued);
    run.write_acks_and_read_back(&acks)
}

/// Lets every shopper claim each of some new coupons.
fn claim_all(phase: &str, coupons: u32, operator: &mut SetupClient, run: &mut ScenarioRun<'_>) -> Result<Vec<CouponClaims>, RushError> {
    let quantity = Some(run.shoppers.len() as u64);
    let mut ids = Vec::new();
    for number in 1..=coupons.max(1) {
        let name = format!("{} {phase} {number}", run.run_name());
        ids.push(operator.create_coupon(&CouponSetup { name: &name, quantity, waitlist: false, discount: DISCOUNT_WON })?);
    }
    let paths = ids.iter().map(|id| ClaimPaths::of(*id)).collect();
    let records = run.run_phase(phase, &Arc::new(ClaimEach { paths, shoppers: Arc::clone(&run.shoppers) }), 0)?.records;
    run.checks.push(check::unexpected_answers(&run.ends_of(phase), &["issued"]));
    let mut claims: Vec<CouponClaims> =
        ids.into_iter().map(|coupon_id| CouponClaims { coupon_id, quantity, records: Vec::new() }).collect();
    let members = run.shoppers.len() as u32;
    for record in records {
        let (coupon, shopper) = (record.iteration / members, record.iteration % members);
        claims[coupon as usize].records.push(IterationRecord { iteration: shopper, ..record });
    }
    Ok(claims)
}

/// Each shopper claims each coupon, one coupon after the other.
struct ClaimEach {
    paths: Vec<ClaimPaths>,
    shoppers: Arc<Vec<Shopper>>,
}

impl ClaimEach {
    fn place(&self, iteration: u32) -> Option<(&ClaimPaths, &Shopper)> {
        let (coupon, shopper) = (iteration as usize / self.shoppers.len(), iteration as usize % self.shoppers.len());
        Some((self.paths.get(coupon)?, &self.shoppers[shopper]))
    }
}

impl Workload for ClaimEach {
    type Observation = ClaimObservation;

    fn operations(&self) -> &'static [&'static str] {
        &["claim"]
    }
    fn iterations(&self) -> Option<u32> {
        Some((self.shoppers.len() * self.paths.len()) as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        self.place(iteration).map(|(paths, shopper)| paths.claim(shopper))
    }
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<ClaimObservation> {
        match self.place(iteration) {
            Some((paths, shopper)) => paths.read_answer(shopper, answer, attempts),
            None => NextStep::Finish(self.give_up(iteration, attempts)),
        }
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<ClaimObservation> {
        Finished::not_won(workload::give_up_label(attempts), ClaimObservation::Unknown)
    }
}

fn add_products(count: u32, operator: &SetupClient, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    if count == 0 {
        return Ok(());
    }
    let workload = AddProducts { count, bearer: operator.bearer(), run: run.run_name() };
    run.run_phase(SEED, &Arc::new(workload), 0)?;
    run.checks.push(check::unexpected_answers(&run.ends_of(SEED), &["created"]));
    Ok(())
}

struct AddProducts {
    count: u32,
    bearer: Option<HeaderValue>,
    run: String,
}

impl Workload for AddProducts {
    type Observation = ();

    fn operations(&self) -> &'static [&'static str] {
        &["add a product"]
    }
    fn iterations(&self) -> Option<u32> {
        Some(self.count)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        if iteration >= self.count {
            return None;
        }
        let name = format!("{} {}", random_word(u64::from(iteration)), random_word(u64::from(iteration) << 32));
        let body = json!({"name": name, "price": PRICE + i64::from(iteration), "options": [{"name": "one", "stock": 1}]});
        let mut request = PreparedRequest::post(Uri::from_static("/v1/products"), self.bearer.clone(), Bytes::from(body.to_string()));
        request.idempotency_key = key(&self.run, "product", u64::from(iteration));
        Some(request)
    }
    fn read_answer(&self, _iteration: u32, answer: &ServerAnswer<'_>, _attempts: &IterationAttempts) -> NextStep<()> {
        NextStep::Finish(match answer.status {
            201 => Finished::unobserved("created", true),
            _ => Finished::unobserved(workload::refusal_label(answer), false),
        })
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<()> {
        Finished::unobserved(workload::give_up_label(attempts), false)
    }
}

fn key(run: &str, of: &str, number: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{run}-{of}-{number}")).ok()
}

fn uri(path: String) -> Uri {
    Uri::try_from(path).expect("a path of letters, digits and dashes is a URI")
}

/// A word of ten letters that differs for each number, and that no product has by accident.
fn random_word(number: u64) -> String {
    // SplitMix64: neighbours have nothing in common.
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (0..10_u32).map(|place| char::from(b'a' + (mixed / 26_u64.pow(place) % 26) as u8)).collect()
}

/// The hostile clients: searches, sign-ups, unpaid orders, refused requests, idle connections.
fn groups(hostile: &HostileScenario, sku: Uuid, run: &ScenarioRun<'_>) -> Vec<CrowdGroup> {
    let (name, shoppers) = (run.run_name(), Arc::clone(&run.shoppers));
    let seed = run.started_at.0.unsigned_abs();
    let search: RequestFn =
        Arc::new(move |number| PreparedRequest::get(uri(format!("/v1/products?q={}", random_word(seed.wrapping_add(number)))), None));
    let sign_up: RequestFn = {
        let name = name.clone();
        Arc::new(move |number| {
            let (email, password) = (format!("{name}-{number}@rush.example"), random_word(seed ^ number));
            let body = json!({"email": email, "password": password, "name": "Stranger"});
            PreparedRequest::post(Uri::from_static("/v1/accounts"), None, Bytes::from(body.to_string()))
        })
    };
    let order: RequestFn = Arc::new(move |number| {
        let shopper = &shoppers[number as usize % shoppers.len()];
        let body = json!({"items": [{"sku": sku, "quantity": 1}]});
        let mut request =
            PreparedRequest::post(Uri::from_static("/v1/orders"), Some(shopper.bearer.clone()), Bytes::from(body.to_string()));
        request.idempotency_key = key(&name, "unpaid", number);
        request
    });
    // Claims without a token, and products that do not exist, in turn.
    let refused: RequestFn = Arc::new(|number| match number % 2 {
        0 => PreparedRequest::post(uri(format!("/v1/coupons/{}/claims", Uuid::from_u128(1))), None, Bytes::new()),
        _ => PreparedRequest::get(uri(format!("/v1/products/{}", Uuid::from_u128(u128::from(number)))), None),
    });
    let idle: RequestFn = Arc::new(|_| PreparedRequest::get(Uri::from_static("/v1/products?limit=1"), None));
    let group = |name, (connections, pause): (usize, Duration), request| CrowdGroup { name, connections, pause, request };
    let groups = [
        group("search", (hostile.searchers, Duration::ZERO), search),
        group("sign up", SIGN_UPS, sign_up),
        group("order without paying", ORDERS, order),
        group("refused", REFUSED, refused),
        group("idle", (hostile.idle, IDLE_PAUSE), idle),
    ];
    groups.into_iter().filter(|group| group.connections > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn random_words_differ() {
        let words: HashSet<String> = (0..10_000).map(random_word).collect();
        assert_eq!(words.len(), 10_000);
        assert!(words.iter().all(|word| word.len() == 10));
    }
}
