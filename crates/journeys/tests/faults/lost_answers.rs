//! The database commits, and its answer is lost on the way: what asks again by its key gets one effect.

use crate::assert_kept;
use journeys::{
    fleet::{Fleet, Shape},
    ground::Ground,
    process::Start,
    rush::{Load, Rush, is_long},
    servers::shared,
};
use kit::testing::proxy::{Cut, Proxy};
use std::time::Duration;

const SHOPPERS: u32 = 24;

// F8
#[test]
fn a_commit_whose_answer_was_lost_has_one_effect() {
    let _servers = shared();
    let mut ground = Ground::together();
    let proxy = ground.runtime().block_on(Proxy::before(ground.server()));
    ground.behind(proxy.port());
    let mut fleet = Fleet::on(Shape::Replicas(2), ground);
    let members = fleet.open(&Start::default(), SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, ..Load::default() });
    let cuts = if is_long() { 1_000 } else { 40 };
    rush.during(|| {
        while proxy.cuts() < cuts {
            let done = proxy.cuts();
            proxy.cut_next(if done % 4 == 3 { Cut::BeforeCommit } else { Cut::AfterCommit });
            rush.goes_on(1);
            std::thread::sleep(Duration::from_millis(50));
        }
        proxy.cut_next(Cut::Nothing);
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "answers of commits were lost");
}
