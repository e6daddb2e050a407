//! Throughput of the writer, through the router but without sockets: claims one by one against claims in groups, orders with folded hops
//! against orders hop by hop. Both sides of each ratio run here, on the same disk, one after the other.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use kit::{http::layers, ports::Stopwatch};
use onrush::{
    in_process::{InProcessClient, PostRequest},
    mall::Mall,
    settings::{RawLimits, RawSettings, Settings},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::runtime::Runtime;

/// Number of concurrent requests, as in a rush with 256 clients.
const CLIENTS: usize = 256;
const OPERATOR: (&str, &str) = ("operator@bench.onrush.example", "measuring-tape-2026");

/// A mall in its own folder, with signed-in members.
struct Bench {
    in_process: InProcessClient,
    operator: String,
    members: Vec<String>,
    folder: PathBuf,
    _mall: Mall,
}

impl Bench {
    async fn open(strategy: &str, fold: bool) -> Result<Bench, String> {
        let folder = std::env::temp_dir().join(format!("onrush-bench-{}", kit::ports::new_id()));
        let raw = RawSettings {
            data_dir: Some(folder.clone()),
            claim_strategy: Some(strategy.into()),
            fold: Some(fold),
            operator_email: Some(OPERATOR.0.into()),
            operator_password: Some(OPERATOR.1.into()),
            limits: Some(RawLimits::off()),
            ..RawSettings::default()
        };
        let settings = Settings::load(&raw).map_err(|error| error.to_string())?;
        let mall = Mall::open(&settings).await.map_err(|error| error.to_string())?;
        let in_process = InProcessClient::new(layers(mall.process.router.clone()));
        let session = in_process.post(PostRequest::new("/v1/sessions", None, json!({"email": OPERATOR.0, "password": OPERATOR.1}))).await?;
        let operator = text(&session, "access_token");
        let imported = onrush::commands::import_members(&mall, u32::try_from(CLIENTS).unwrap_or(u32::MAX)).await?;
        let members: Vec<String> = imported.into_iter().map(|member| member.access_token).collect();
        Ok(Bench { in_process, operator, members, folder, _mall: mall })
    }

    async fn coupon(&self) -> Result<String, String> {
        let body = json!({
            "name": "bench", "kind": "unlimited", "discount": {"type": "amount", "won": 1_000}, "scope": "order",
            "issue_from": "2026-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z",
            "waitlist": false,
        });
        Ok(text(&self.in_process.post(PostRequest::new("/v1/coupons", Some(&self.operator), body)).await?, "id"))
    }

    async fn all(&self, post: impl Fn(&str) -> PostRequest) -> Result<(), String> {
        let answers = join_all(self.members.iter().map(|token| self.in_process.post(post(token)))).await;
        answers.into_iter().collect::<Result<Vec<Value>, String>>().map(|_| ())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn claims(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut group = criterion.benchmark_group("claims");
    group.throughput(Throughput::Elements(CLIENTS as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
    for strategy in ["row_lock", "group_commit"] {
        let bench = runtime.block_on(Bench::open(strategy, true)).expect("the mall opens");
        group.bench_function(BenchmarkId::from_parameter(strategy), |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let path = format!("/v1/coupons/{}/claims", bench.coupon().await.expect("a coupon"));
                        let watch = Stopwatch::start();
                        bench.all(|token| PostRequest::new(&path, Some(token), json!({}))).await.expect("every member gets a coupon");
                        spent += watch.elapsed();
                    }
                    spent
                })
            });
        });
    }
    group.finish();
}

fn orders(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut group = criterion.benchmark_group("orders");
    group.throughput(Throughput::Elements(CLIENTS as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, fold) in [("hop by hop", false), ("folded", true)] {
        let bench = runtime.block_on(Bench::open("group_commit", fold)).expect("the mall opens");
        let sku = runtime.block_on(fill_mall(&bench)).expect("the mall is filled");
        let body = json!({"items": [{"sku": sku, "quantity": 1}], "payment": {"method": "wallet"}});
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let watch = Stopwatch::start();
                    for _ in 0..rounds {
                        bench
                            .all(|token| PostRequest::new("/v1/orders", Some(token), body.clone()).wait(10))
                            .await
                            .expect("every order is paid");
                    }
                    watch.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// Creates a product with ample stock, and charges the wallet of every member.
async fn fill_mall(bench: &Bench) -> Result<String, String> {
    let product = json!({"name": "bench", "price": 1, "options": [{"name": "one", "stock": 100_000_000}]});
    let product = bench.in_process.post(PostRequest::new("/v1/products", Some(&bench.operator), product)).await?;
    bench.all(|token| PostRequest::new("/v1/wallet/charges", Some(token), json!({"amount": 100_000_000}))).await?;
    Ok(text(&product["options"][0], "sku"))
}

criterion_group!(benches, claims, orders);
criterion_main!(benches);
