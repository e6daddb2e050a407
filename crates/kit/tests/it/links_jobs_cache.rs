//! Links, jobs and caches.

use super::world::World;
use contracts::{
    Sku,
    calls::{GetAvailability, GetPrices},
};
use futures::FutureExt;
use kit::{
    Kit, Module,
    cache::Cache,
    jobs::{Job, JobLease, Pass},
    links::{CallHandlers, LinkError},
    tasks,
};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

#[tokio::test]
async fn a_call_is_answered_by_its_service() {
    let world = World::start().await;
    world.ask().await;
    let links = &world.app.kit().links;
    let skus = vec![Sku(Uuid::from_u128(1)), Sku(Uuid::from_u128(2))];
    let answer = links.call(GetAvailability { skus: skus.clone() }).await.unwrap();
    assert_eq!(answer, skus.into_iter().map(|sku| (sku, super::world::STOCK - 1)).collect());
}

#[tokio::test]
async fn a_failed_call_says_why() {
    let world = World::start().await;
    let links = &world.app.kit().links;
    let nobody = links.call(GetPrices { skus: Vec::new() }).await;
    assert!(matches!(nobody, Err(LinkError::NotHere { service: "catalog", call: "get_prices" })), "{nobody:?}");
    let failed = links.call(GetAvailability { skus: Vec::new() }).await.unwrap_err();
    assert!(matches!(failed, LinkError::Failed { service: "stock", .. }));
    assert!(failed.to_string().contains("no SKUs in the call"), "{failed}");
}

#[tokio::test]
async fn a_stopped_process_frees_its_services() {
    let World { app, orders, stock, .. } = World::start().await;
    let services = [Arc::downgrade(&(orders as Arc<dyn Module>)), Arc::downgrade(&(stock as Arc<dyn Module>))];
    let links = app.kit().links.clone();
    app.stop().await;
    let freed = async {
        while services.iter().any(|service| service.strong_count() > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), freed).await.expect("no part of a stopped process keeps its services");
    let late = links.call(GetAvailability { skus: vec![Sku(Uuid::nil())] }).await.unwrap_err();
    assert!(late.to_string().contains("its process has stopped"), "{late}");
}

#[tokio::test]
async fn the_first_registered_handler_answers() {
    let world = World::start().await;
    let mut usurper = CallHandlers::default();
    usurper.register::<GetAvailability, _, _, _>(|_| async { Err("usurped") });
    world.app.kit().links.bind(usurper);
    assert!(world.app.kit().links.call(GetAvailability { skus: vec![Sku(Uuid::nil())] }).await.is_ok());
}

#[tokio::test]
async fn a_job_runs_bounded_passes_until_done() {
    let world = World::start().await;
    for id in 1..=10 {
        world.execute(&format!("insert into coupons_heap (id) values ({id})")).await;
    }
    let jobs = world.app.process.jobs();
    let [job] = jobs.as_slice() else { panic!("there is one job") };
    assert_eq!((job.name, job.every), ("coupons.sweep", Duration::from_secs(60)));
    assert_eq!(job.pass().await, Ok(Pass::More));
    assert_eq!(world.app.sql_i64("select count(*) from coupons_heap").await, 7);
    assert_eq!(job.drain().await, Ok(3));
    assert_eq!(world.app.sql_i64("select count(*) from coupons_heap").await, 0);
    world.app.job("coupons.sweep").await;
}

#[tokio::test]
async fn a_schedule_survives_failed_passes_until_shutdown() {
    let passes = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&passes);
    let job = Job::new("kit.count", Duration::from_millis(1), move || {
        let pass = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            // finding 16: a pass that panics is one that failed.
            assert!(!pass.is_multiple_of(3), "every third pass panics");
            if pass.is_multiple_of(2) { Err("every second one") } else { Ok(Pass::More) }
        }
    });
    let (trigger, shutdown) = tasks::shutdown();
    job.start(shutdown.clone(), JobLease::always());
    while passes.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    trigger.stop();
    assert!(shutdown.is_stopping());
    // The task drops its captures when it ends.
    while Arc::strong_count(&passes) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_panic_in_a_task_is_contained() {
    tasks::spawn("stumble", async { panic!("on purpose") }).await.expect("the panic is caught");
}

#[tokio::test]
async fn concurrent_misses_load_once() {
    let cache: Cache<u32, u32, String> = Cache::new(100, Duration::from_secs(60));
    let loads = AtomicU32::new(0);
    let load = || async {
        loads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(7)
    };
    let found = futures::future::join_all((0..20).map(|_| cache.get_or_load(1, load()))).await;
    assert!(found.into_iter().all(|found| found == Ok(7)));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    cache.invalidate(&1);
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(cache.get_or_load(1, load()).await, Ok(7));
    assert_eq!(loads.load(Ordering::SeqCst), 2);
    cache.insert(2, 8).await;
    cache.invalidate_all();
    assert_eq!((cache.get(&1).await, cache.get(&2).await), (None, None));
}

#[tokio::test]
async fn a_failed_load_is_not_cached_and_entries_expire() {
    let cache: Cache<u32, u32, &str> = Cache::new(100, Duration::from_millis(20));
    assert_eq!(cache.get_or_load(1, async { Err("down") }).await, Err(Arc::new("down")));
    assert_eq!(cache.get_or_load(1, async { Ok(7) }).await, Ok(7));
    while cache.get(&1).await.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Calls another service, which needs a reader connection. Before that it takes a reader connection itself, and either returns it first or
/// keeps it.
async fn read_and_ask(kit: Kit, gives_back: bool) -> Result<Pass, String> {
    let mut held = Some(kit.db.reader().await.map_err(|error| error.to_string())?);
    if gives_back {
        held = None;
    }
    let asked = kit.links.call(GetAvailability { skus: vec![Sku(Uuid::nil())] }).await;
    drop(held);
    asked.map(|_| Pass::Done).map_err(|error| error.to_string())
}

// F11: detected even if a second connection is free.
#[tokio::test]
async fn a_second_reader_connection_is_detected() {
    let world = World::start().await;
    let job = |gives_back| {
        let kit = world.app.kit().clone();
        Job::new("orders.curious", Duration::from_secs(60), move || read_and_ask(kit.clone(), gives_back))
    };
    assert_eq!(job(true).pass().await, Ok(Pass::Done));
    let nested = AssertUnwindSafe(job(false).pass()).catch_unwind().await;
    assert!(!matches!(nested, Ok(Ok(_))), "{nested:?}");
    assert_eq!(job(true).pass().await, Ok(Pass::Done));
}
