//! A mall that outgrew its folder: moved to servers with work under way, and gone on with there.

use crate::assert_kept;
use journeys::{
    fleet::{Fleet, Shape},
    ground::Ground,
    patient::Doors,
    process::{Place, Start},
    rush::{Load, Rush},
    servers::shared,
};

const SHOPPERS: u32 = 24;

// The whole way: one process on a file, killed under load, imported, and served apart over Kafka. Shoppers ask on under their keys and
// notice a pause.
#[test]
fn a_solo_mall_goes_on_apart_over_kafka() {
    let _servers = shared();
    let (solo, start) = (Place::new(), Start::default());
    let members = solo.seed(SHOPPERS);
    let server = solo.start(&start);
    let rush = Rush::furnish(Doors::new(vec![server.address]), members, Load::default());
    let ground = Ground::apart(&["stock", "orders"]).with_secret(solo.secret());
    let mut fleet = Fleet::on(Shape::Split, ground);
    rush.during(|| {
        rush.goes_on(60);
        // With orders half done, and answers that nobody has heard.
        server.kill();
        fleet.place.import(&solo);
        fleet.start_all(&start);
        rush.doors.are_now(fleet.addresses());
        rush.goes_on(60);
    });
    assert_kept(&fleet, &rush, "moved from a file to processes apart");
    for (service, epoch) in [("orders", 2), ("stock", 2)] {
        let sql = format!("select max(epoch) from {service}.{service}_outbox");
        assert_eq!(fleet.place.ground().number(service, &sql), epoch, "{service} goes on in a numbering of its own");
    }
}
