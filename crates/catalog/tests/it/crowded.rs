//! More readers than connections.

use crate::world::World;
use futures::future::join_all;
use kit::{
    Db,
    ports::Stopwatch,
    testing::{App, TestResponse},
};
use std::time::Duration;

const CLIENTS: usize = 200;
/// A connection is waited for two seconds, a lock five; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(12);

/// So many clients at once. Each looks for something else, so that none is helped by what is remembered for another.
async fn ask_at_once(world: &World, round: usize) -> Vec<TestResponse> {
    let asking = (0..CLIENTS).map(|client| {
        let path = format!("/v1/products?min_price={}", round * CLIENTS + client);
        async move { world.app.get(path).once().send().await }
    });
    let took = Stopwatch::start();
    let answers = join_all(asking).await;
    assert!(took.elapsed() < BOUND, "{:?}", took.elapsed());
    answers
}

/// Served, or told when to come back; how many were served.
fn served(answers: &[TestResponse]) -> usize {
    for answer in answers {
        assert!(
            answer.status == 200 || answer.status == 503 && answer.headers.get("retry-after").is_some_and(|seconds| seconds == "1"),
            "{}",
            answer.status
        );
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

// F11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_for_two_hundred_clients() {
    let world = World::with(App::builder().readers(2).on_postgres().await).await;
    world.product("Rose", 100_000, 5).await;
    assert!(served(&ask_at_once(&world, 0).await) > 0);
    // Both connections hang: nobody is served, and nobody hangs with them.
    let url = world.app.postgres().expect("it is on PostgreSQL").url;
    let mut operator = Db::postgres(&url, contracts::SERVICES).expect("a URL").open_writer().await.expect("connects");
    operator.begin().await.expect("begins");
    operator.batch("lock table catalog_products in access exclusive mode").await.expect("nobody has it for long");
    assert_eq!(served(&ask_at_once(&world, 1).await), 0);
    operator.rollback().await.expect("it ends");
    assert_eq!(served(&ask_at_once(&world, 2).await), CLIENTS);
}
