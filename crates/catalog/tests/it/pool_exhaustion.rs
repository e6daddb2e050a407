//! More readers than database connections.

use crate::world::World;
use futures::future::join_all;
use kit::{Db, ports::Stopwatch};
use std::time::Duration;
use testkit::{App, TestResponse};
use uuid::Uuid;

const CLIENTS: usize = 200;
/// A request waits two seconds for a connection and five for a lock; the rest allows for a busy machine.
const BOUND: Duration = Duration::from_secs(12);

/// Lists products for all clients at once. Each request differs, so that none is answered from the cache.
async fn list_at_once(world: &World, round: usize) -> Vec<TestResponse> {
    let requests = (0..CLIENTS).map(|client| {
        let path = format!("/v1/products?store={}", Uuid::from_u128((round * CLIENTS + client) as u128));
        async move { world.app.get(path).once().send().await }
    });
    let took = Stopwatch::start();
    let answers = join_all(requests).await;
    assert!(took.elapsed() < BOUND, "{:?}", took.elapsed());
    answers
}

/// Counts the successful answers. All others must be 503 with `Retry-After: 1`.
fn successes(answers: &[TestResponse]) -> usize {
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
async fn two_connections_serve_two_hundred_clients() {
    let world = World::with(App::builder().readers(2).on_postgres()).await;
    world.product("Rose", 100_000, 5).await;
    assert!(successes(&list_at_once(&world, 0).await) > 0);
    // Both connections wait for a lock: all requests fail, and none hangs.
    let url = world.app.postgres().expect("it is on PostgreSQL").url;
    let mut operator = Db::postgres(&url, contracts::SERVICES).expect("a URL").open_writer().await.expect("connects");
    operator.begin().await.expect("begins");
    operator.batch("lock table catalog_products in access exclusive mode").await.expect("other locks are short");
    assert_eq!(successes(&list_at_once(&world, 1).await), 0);
    operator.rollback().await.expect("rolls back");
    assert_eq!(successes(&list_at_once(&world, 2).await), CLIENTS);
}
