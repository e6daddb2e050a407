//! Answers of commits are lost on the way from the database. A retry with the same key has one effect.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::StartOptions,
    servers::shared,
};
use std::time::Duration;
use testkit::proxy::{Cut, Proxy};

const SHOPPERS: u32 = 24;

// F8
#[test]
fn a_commit_whose_answer_was_lost_has_one_effect() {
    let _servers = shared();
    let mut backends = Backends::one_database();
    let proxy = backends.runtime().block_on(Proxy::before(backends.server_address()));
    backends.connect_through(proxy.port());
    let mut fleet = Fleet::on_backends(FleetShape::Replicas(2), backends);
    let members = fleet.seed_and_start(&StartOptions::default(), SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { coupons: 10, ..LoadTestOptions::default() });
    let cuts = if is_long() { 1_000 } else { 40 };
    load.run_during(|| {
        while proxy.cuts() < cuts {
            let done = proxy.cuts();
            proxy.cut_next(if done % 4 == 3 { Cut::BeforeCommit } else { Cut::AfterCommit });
            load.wait_for_answers(1);
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy.cut_next(Cut::Nothing);
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "answers of commits were lost");
}
