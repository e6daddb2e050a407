//! A mall that outgrew its folder: moved to servers with work under way, and gone on with there.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    fleet::{Fleet, FleetShape},
    load::{LoadOptions, LoadTest},
    process::{DataDir, StartOptions},
    retrying_client::Addresses,
    servers::shared,
};

const SHOPPERS: u32 = 24;

// The whole way: one process on a file, killed under load, imported, and served apart over Kafka. Shoppers ask on under their keys and
// notice a pause.
#[test]
fn a_solo_mall_continues_as_split_processes() {
    let _servers = shared();
    let (solo, start) = (DataDir::new(), StartOptions::default());
    let members = solo.seed(SHOPPERS);
    let server = solo.start(&start);
    let load = LoadTest::prepare(Addresses::new(vec![server.address]), members, LoadOptions::default());
    let backends = Backends::split(&["stock", "orders"]).with_secret(solo.secret());
    let mut fleet = Fleet::on_backends(FleetShape::Split, backends);
    load.run_during(|| {
        load.wait_for_answers(60);
        // With orders half done, and answers that nobody has heard.
        server.kill();
        fleet.data_dir.import(&solo);
        fleet.start_all(&start);
        load.addresses.replace(fleet.socket_addresses());
        load.wait_for_answers(60);
    });
    assert_nothing_lost(&fleet, &load, "moved from a file to processes apart");
    for (service, epoch) in [("orders", 2), ("stock", 2)] {
        let sql = format!("select max(epoch) from {service}.{service}_outbox");
        assert_eq!(fleet.data_dir.backends().number(service, &sql), epoch, "{service} goes on in a numbering of its own");
    }
}
