//! Processes that die where messages are numbered and published, and where a checkout's transactions are committed.

use crate::assert_kept;
use journeys::{
    crash::{
        Staged, all_of, crash, plan,
        plays::{Mall, Play},
        untroubled,
    },
    fleet::{Fleet, Shape},
    ground::Ground,
    process::{Place, Start},
    rush::{Load, Rush, is_long},
    servers::shared,
};
use std::time::Duration;

const SHOPPERS: u32 = 24;
const PATIENCE: Duration = Duration::from_secs(30);

const STREAMS: [&str; 8] = ["orders", "stock", "coupons", "wallet", "payments", "catalog", "stores", "accounts"];
const POINTS: [&str; 5] =
    ["sequencer.before_numbering", "sequencer.after_numbering", "relay.before_publish", "relay.after_publish", "relay.after_mark"];

/// Each stream once, and with them each point; all of both in a long run.
fn on_the_way() -> Vec<(&'static str, &'static str)> {
    let all = STREAMS.iter().enumerate().flat_map(|(n, service)| POINTS.iter().enumerate().map(move |(m, point)| (n, m, *service, *point)));
    all.filter(|(n, m, ..)| is_long() || n % POINTS.len() == *m).map(|(.., service, point)| (service, point)).collect()
}

/// The process with this service dies when it comes to a point for the second time, which may be while it starts; and is there again.
fn dies_at(fleet: &mut Fleet, service: &str, point: &str, start: &Start) {
    let seat = fleet.with(service);
    fleet.kill(seat);
    let armed = Start { crash_point: Some(format!("{point}:2")), ..start.clone() };
    if fleet.try_start(seat, &armed) {
        assert!(fleet.dies(seat, PATIENCE), "nothing passes {point}");
    }
    fleet.start(seat, start);
}

// F1, F18
#[test]
fn a_process_that_dies_while_it_numbers_or_publishes_loses_and_repeats_nothing() {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, members) = Fleet::opened(Shape::Split, &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, ..Load::default() });
    rush.during(|| {
        for (service, point) in on_the_way() {
            dies_at(&mut fleet, service, &format!("{service}.{point}"), &start);
            rush.goes_on(10);
        }
    });
    assert_kept(&fleet, &rush, "died while numbering and publishing");
}

/// Where a claim is that is taken down: not written yet, written and not answered, settled and not committed, committed.
const CLAIMS: [&str; 4] = [
    "coupons.claims.before_write",
    "coupons.claims.after_write",
    "coupons.coupon.claim.before_commit",
    "coupons.coupon.claim.after_commit",
];

// F1, F8, C25
#[test]
fn a_process_that_dies_between_a_claim_and_its_settling_loses_and_repeats_nothing() {
    let _servers = shared();
    let start = Start { claim_strategy: Some("redis"), ..Start::default() };
    let (mut fleet, members) = Fleet::opened(Shape::Split, &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, claims_later: true, ..Load::default() });
    rush.during(|| {
        for point in CLAIMS.repeat(if is_long() { 10 } else { 1 }) {
            dies_at(&mut fleet, "coupons", point, &start);
            rush.goes_on(10);
        }
    });
    assert_kept(&fleet, &rush, "died between claims and their settling");
}

/// Points of a checkout; a long run has all there are.
const SAMPLE: [(&str, Staged); 8] = [
    ("coupons.claim.after_commit", (Play::Everything, false)),
    ("orders.create.after_commit", (Play::Everything, false)),
    ("orders.pay.before_commit", (Play::PaidLater, false)),
    ("stock.stock.reserve.before_commit", (Play::Everything, false)),
    ("wallet.wallet.debit.after_commit", (Play::Everything, false)),
    ("orders.payment.approved.before_commit", (Play::Everything, false)),
    ("coupons.stock.slip.after_commit", (Play::Everything, true)),
    ("payments.provider.after_call", (Play::Provider, false)),
];

// F1, F8
#[test]
fn a_process_on_postgresql_that_dies_in_a_checkout_leaves_nothing_half_done() {
    let _servers = shared();
    // How plays end is learned on SQLite: it is the same everywhere.
    let untroubled =
        untroubled(&Mall::furnished(Place::new()), |play| is_long() || SAMPLE.iter().any(|(_, (sampled, _))| *sampled == play));
    let points: Vec<(String, Staged)> = if is_long() {
        let (plan, _) = plan(&untroubled);
        plan.iter().flat_map(|(point, play)| point.names().into_iter().map(|name| (name, *play))).collect()
    } else {
        SAMPLE.iter().map(|(name, play)| ((*name).to_owned(), *play)).collect()
    };
    let mall = Mall::furnished(Place::on(Ground::together()));
    let (mall, untroubled) = (&mall, &untroubled);
    let work = points.into_iter().map(|(name, play)| move || crash(mall, &name, true, play, 1, &untroubled.ends[&play.0])).collect();
    let failures = all_of(work);
    assert!(failures.is_empty(), "{} of the points:\n{}", failures.len(), failures.join("\n"));
}
