use super::{
    Faults,
    puppet::{Emit, Puppet},
};
use crate::{
    auth::Role,
    batch::Reply,
    db::{FromRow, Synchronous},
    engine::EngineSettings,
    ports::{ManualClock, new_id},
    process::{DEFAULT_QUEUE, Process, ProcessSettings},
    service::{Kit, Service},
};
use axum::{Router, body::Body};
use bytes::Bytes;
use contracts::{MemberId, Message, Timestamp};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tower::ServiceExt;
use uuid::Uuid;

/// 2026-11-20T00:00:00Z: where the clock of every test starts.
pub const START: Timestamp = Timestamp(1_795_132_800_000_000);

/// Services on a database of their own, behind the real router. Time moves only when the test moves it; jobs run only when it says so.
pub struct App {
    pub process: Process,
    pub clock: ManualClock,
    pub faults: Faults,
    pub router: Router,
    folder: TempFolder,
}

/// A folder that goes away with the test.
pub struct TempFolder(PathBuf);

impl TempFolder {
    #[expect(clippy::new_without_default, reason = "it makes a folder; that should be written out")]
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("onrush-test-{}", new_id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct AppBuilder {
    engine: EngineSettings,
    synchronous: Synchronous,
    queue: usize,
    folder: TempFolder,
    clock: ManualClock,
}

impl AppBuilder {
    pub fn fold(mut self, fold: bool) -> Self {
        self.engine.fold = fold;
        self
    }
    pub fn max_batch(mut self, commands: usize) -> Self {
        self.engine.max_batch = commands;
        self
    }
    pub fn queue(mut self, commands: usize) -> Self {
        self.queue = commands;
        self
    }
    /// The folder the database will be in, for services that keep a file beside it.
    pub fn folder(&self) -> PathBuf {
        self.folder.0.clone()
    }
    pub async fn start(self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let faults = Faults::planned();
        let settings = ProcessSettings {
            database: self.folder.0.join("onrush.db"),
            synchronous: self.synchronous,
            engine: self.engine,
            queue: self.queue,
            secret: [7; 32],
            clock: Arc::new(self.clock.clone()),
            faults: faults.clone(),
        };
        let process = Process::start(settings, build).await.expect("the services start");
        let router = crate::http::layers(process.router.clone());
        App { process, clock: self.clock, faults, router, folder: self.folder }
    }
}

impl App {
    /// Commits are not synced here: tests kill processes, never the power. What must survive that is tested on the real binary.
    pub fn builder() -> AppBuilder {
        AppBuilder {
            engine: EngineSettings::default(),
            synchronous: Synchronous::Normal,
            queue: DEFAULT_QUEUE,
            folder: TempFolder::new(),
            clock: ManualClock::at(START),
        }
    }

    pub async fn start(build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        Self::builder().start(build).await
    }

    /// Stops everything and starts it again on the same database and clock, with default settings.
    pub async fn restart(self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let App { process, clock, folder, .. } = self;
        process.stop().await;
        AppBuilder { folder, clock, ..Self::builder() }.start(build).await
    }

    pub fn kit(&self) -> &Kit {
        &self.process.kit
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// An access token for this member, as sign-in would give it.
    pub fn token(&self, member_id: MemberId, role: Role) -> String {
        self.kit().auth.issue(member_id, role, new_id(), self.clock_now())
    }

    pub fn clock_now(&self) -> Timestamp {
        self.kit().clock.now()
    }

    pub fn get(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::GET, path)
    }
    pub fn post(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::POST, path)
    }
    pub fn put(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::PUT, path)
    }
    pub fn patch(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::PATCH, path)
    }
    pub fn delete(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::DELETE, path)
    }
    pub fn request(&self, method: Method, path: impl Into<String>) -> TestRequest {
        TestRequest { router: self.router.clone(), builder: Request::builder().method(method).uri(path.into()), body: Bytes::new() }
    }

    /// Writes messages into a service's stream, in one transaction, and returns when it is committed (and folded).
    pub async fn emit(&self, source: &'static str, key: impl Into<Uuid>, message: Message) {
        self.emit_all(source, key, vec![message]).await;
    }

    pub async fn emit_all(&self, source: &'static str, key: impl Into<Uuid>, messages: Vec<Message>) {
        let puppet = Puppet::speaking_as(self.kit(), source);
        let reply = self.kit().submit(&puppet, Emit { key: key.into(), messages }, None, Uuid::nil()).await;
        assert!(matches!(reply, Ok(Reply::Answer(_))), "the message was not written: {reply:?}");
    }

    /// A service's stream so far.
    pub async fn messages(&self, source: &str) -> Vec<(Uuid, Message)> {
        let rows: Vec<(Uuid, String, String)> = self.rows(&format!("select key, kind, data from {source}_outbox order by seq")).await;
        rows.into_iter().map(|(key, kind, data)| (key, Message::decode(&kind, &data).expect("stored messages decode"))).collect()
    }

    /// Runs one job until it has nothing left to do.
    pub async fn job(&self, name: &str) {
        let job = self.process.jobs().into_iter().find(|job| job.name == name).unwrap_or_else(|| panic!("there is no job {name}"));
        job.drain().await.expect("the job succeeds");
    }

    pub async fn rows<T: FromRow>(&self, sql: &str) -> Vec<T> {
        let mut reader = self.kit().db.reader().await.expect("a read connection");
        reader.query(sql, &[]).await.expect("the query runs")
    }

    pub async fn sql_i64(&self, sql: &str) -> i64 {
        self.rows::<(i64,)>(sql).await.first().map(|(value,)| *value).expect("the query has a row")
    }

    /// Waits until a query's number is as wanted; readers that are behind catch up within moments. Fails after ten seconds.
    pub async fn eventually(&self, sql: &str, wanted: i64) {
        let mut last = None;
        for _ in 0..1_000 {
            last = self.rows::<(i64,)>(sql).await.first().map(|(value,)| *value);
            if last == Some(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{sql}: wanted {wanted}, stayed {last:?}");
    }
}

pub struct TestRequest {
    router: Router,
    builder: http::request::Builder,
    body: Bytes,
}

impl TestRequest {
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
    /// The `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }
    #[must_use]
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.raw("application/json", body.to_string())
    }
    #[must_use]
    pub fn raw(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }
    pub async fn send(self) -> TestResponse {
        let request = self.builder.body(Body::from(self.body)).expect("a well-formed request");
        let response = self.router.oneshot(request).await.expect("the router answers");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body arrives").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null);
        TestResponse { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }
}

#[derive(Debug)]
pub struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null where the body is not JSON.
    pub body: serde_json::Value,
    pub bytes: Bytes,
}

impl TestResponse {
    /// The problem's slug, such as `sold-out`; empty for other answers.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or("")
    }
    #[must_use]
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    #[must_use]
    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.problem()), (status, slug), "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
}
