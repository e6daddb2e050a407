//! Moves a mall from SQLite to split processes, with work in progress.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions},
    process::{DataDir, StartOptions},
    retrying_client::Addresses,
    servers::shared,
};

const SHOPPERS: u32 = 24;

// One process on a file is killed under load, imported, and served by split processes over Kafka. Clients keep their keys and see only a
// pause.
#[test]
fn a_solo_mall_continues_as_split_processes() {
    let _servers = shared();
    let (solo, start) = (DataDir::new(), StartOptions::default());
    let members = solo.seed(SHOPPERS);
    let server = solo.start(&start);
    let load = LoadTest::prepare(Addresses::new(vec![server.address]), members, LoadTestOptions::default());
    let backends = Backends::split(&["stock", "orders"]).with_secret(solo.secret());
    let mut fleet = Fleet::on_backends(FleetShape::Split, backends);
    load.run_during(|| {
        load.wait_for_answers(60);
        // Some orders are incomplete, and some answers never arrived.
        server.kill();
        fleet.data_dir.import(&solo);
        fleet.start_all(&start);
        load.addresses.replace(fleet.socket_addresses());
        load.wait_for_answers(60);
    });
    assert_nothing_lost(&fleet, &load, "moved from a file to processes apart");
    for (service, epoch) in [("orders", 2), ("stock", 2)] {
        let sql = format!("select max(epoch) from {service}.{service}_outbox");
        assert_eq!(fleet.data_dir.backends().number(service, &sql), epoch, "{service} starts a new epoch");
    }
}
