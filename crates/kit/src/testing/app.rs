use super::{
    Faults, TestDatabase,
    puppet::{Emit, Puppet},
    rest::{self, Rest},
    shape::{Ground, Processes, Shape, make_ground},
};
use crate::{
    auth::Role,
    batch::Reply,
    db::{FromRow, Synchronous},
    engine::EngineSettings,
    ports::{ManualClock, new_id},
    process::{DEFAULT_QUEUE, Database, PostgresSettings, Process, ProcessSettings},
    service::{Kit, Service},
    tasks::ShutdownTrigger,
};
use axum::{Router, body::Body};
use bytes::Bytes;
use contracts::{MemberId, Message, Timestamp};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tower::ServiceExt;
use uuid::Uuid;

/// 2026-11-20T00:00:00Z: where the clock of every test starts.
pub const START: Timestamp = Timestamp(1_795_132_800_000_000);

/// How often a request is sent again that was refused for the moment.
const COME_BACK: u32 = 100;

/// Services on a database of their own, behind the real router. Time moves only when the test moves it; jobs run only when it says so.
pub struct App {
    pub process: Process,
    pub clock: ManualClock,
    pub faults: Faults,
    pub router: Router,
    /// Further processes of the same mall, where it has several.
    others: Vec<Process>,
    servers: Vec<ShutdownTrigger>,
    folder: TempFolder,
    ground: Ground,
    shape: Shape,
    /// Waits for what follows a request, where that is not part of its transaction.
    rest: Option<Arc<Rest>>,
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

/// What the tests of a service run on: `ONRUSH_TEST_DATABASE=postgres` chooses PostgreSQL, so that every one of them can be run there.
fn wants_postgres() -> bool {
    match std::env::var("ONRUSH_TEST_DATABASE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") | Err(_) => false,
        Ok(other) => panic!("ONRUSH_TEST_DATABASE is “{other}”: it must be sqlite or postgres"),
    }
}

pub struct AppBuilder {
    engine: EngineSettings,
    synchronous: Synchronous,
    queue: usize,
    folder: TempFolder,
    clock: ManualClock,
    ground: Option<Ground>,
    partitions: i64,
    faults: Faults,
}

impl AppBuilder {
    /// Of each stream, on PostgreSQL. With one, a service's messages are read back in the order in which it wrote them.
    pub fn partitions(mut self, partitions: i64) -> Self {
        self.partitions = partitions;
        self
    }
    /// On PostgreSQL, whatever the environment says.
    pub async fn on_postgres(mut self) -> Self {
        self.ground = Some(Ground { database: Some(Arc::new(TestDatabase::create().await)), kafka: None });
        self
    }

    pub(super) fn process_settings(&self) -> ProcessSettings {
        ProcessSettings {
            database: Database::Sqlite { path: self.folder.0.join("onrush.db"), synchronous: self.synchronous },
            kafka: None,
            apart: None,
            redis: None,
            engine: self.engine.clone(),
            queue: self.queue,
            secret: [7; 32],
            clock: Arc::new(self.clock.clone()),
            faults: self.faults.clone(),
        }
    }

    /// Where the processes are to stand: what was used before a restart, or something new.
    pub(super) async fn ground(&mut self, shape: Shape) -> Ground {
        match self.ground.take() {
            Some(ground) => ground,
            None => make_ground(shape).await,
        }
    }

    pub(super) async fn assemble(self, processes: Processes, ground: Ground, shape: Shape) -> App {
        let Processes { mut all, router, servers, rest } = processes;
        if let Some(rest) = &rest {
            rest.mind(&self.faults);
        }
        let process = all.remove(0);
        let app =
            App { process, others: all, servers, clock: self.clock, faults: self.faults, router, folder: self.folder, ground, shape, rest };
        app.rest().await;
        app
    }
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
    /// One process.
    pub async fn start(mut self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let ground = match self.ground.take() {
            Some(ground) => ground,
            None if wants_postgres() => Ground { database: Some(Arc::new(TestDatabase::create().await)), kafka: None },
            None => Ground { database: None, kafka: None },
        };
        let mut settings = self.process_settings();
        if let Some(database) = &ground.database {
            let postgres = PostgresSettings { readers: 4, partitions: self.partitions, ..PostgresSettings::at(database.url()) };
            settings.database = Database::Postgres(postgres);
        }
        let process = Process::start(settings, build).await.expect("the services start");
        let router = crate::http::layers(process.router.clone());
        let rest = ground.database.as_ref().map(|_| Arc::new(Rest::of(&process.kit, &process.services)));
        self.assemble(Processes { all: vec![process], router, servers: Vec::new(), rest }, ground, Shape::Solo).await
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
            ground: None,
            partitions: 1,
            faults: Faults::planned(),
        }
    }

    pub async fn start(build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        Self::builder().start(build).await
    }

    /// Stops everything and starts it again on the same database and clock, with default settings, in one process.
    pub async fn restart(self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let (builder, _) = self.halt().await;
        builder.start(build).await
    }

    /// The same in the shape it had.
    pub async fn restart_mall(self, build: impl Fn(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let (builder, shape) = self.halt().await;
        builder.start_in(shape, build).await
    }

    /// Stops all processes.
    pub async fn stop(self) {
        let _ = self.halt().await;
    }

    async fn halt(self) -> (AppBuilder, Shape) {
        let App { process, others, servers, clock, folder, ground, shape, .. } = self;
        for server in servers {
            server.stop();
        }
        process.stop().await;
        for process in others {
            process.stop().await;
        }
        let ground = ground.database.is_some().then_some(ground);
        (AppBuilder { folder, clock, ground, ..Self::builder() }, shape)
    }

    /// One more process on the same PostgreSQL database, with the same clock and the same planned faults.
    pub async fn beside(&self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> App {
        let ground = Ground { database: self.ground.database.clone(), kafka: self.ground.kafka.clone() };
        assert!(ground.database.is_some(), "only PostgreSQL takes several processes");
        let builder = AppBuilder { clock: self.clock.clone(), ground: Some(ground), faults: self.faults.clone(), ..Self::builder() };
        builder.start(build).await
    }

    /// How the product's settings name the database of this test, where it is not a file.
    pub fn postgres(&self) -> Option<PostgresSettings> {
        self.ground.database.as_ref().map(|database| PostgresSettings::at(database.url()))
    }

    /// The kit of a process that runs this service.
    pub fn kit_of(&self, service: &str) -> &Kit {
        let mut processes = std::iter::once(&self.process).chain(&self.others);
        let here = processes.find(|process| process.services.iter().any(|found| found.name() == service));
        &here.unwrap_or(&self.process).kit
    }

    pub fn is_postgres(&self) -> bool {
        self.ground.database.is_some()
    }

    /// Returns when no message is under way, or when those that are do not move: a test holds them.
    pub async fn rest(&self) {
        if let Some(rest) = &self.rest {
            rest.wait().await;
        }
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
        TestRequest {
            router: self.router.clone(),
            // Stories that are told in several shapes know of hops; waiting after each of a thousand requests would be another story.
            rest: self.rest.clone().filter(|_| self.shape == Shape::Solo),
            is_patient: self.shape != Shape::Solo,
            builder: Request::builder().method(method).uri(path.into()),
            body: Bytes::new(),
        }
    }

    /// Writes messages into a service's stream, in one transaction, and returns when it is committed (and folded).
    pub async fn emit(&self, source: &'static str, key: impl Into<Uuid>, message: Message) {
        self.emit_all(source, key, vec![message]).await;
    }

    pub async fn emit_all(&self, source: &'static str, key: impl Into<Uuid>, messages: Vec<Message>) {
        let kit = self.kit_of(source);
        let puppet = Puppet::speaking_as(kit, source);
        let reply = kit.submit(&puppet, Emit { key: key.into(), messages }, None, Uuid::nil()).await;
        assert!(matches!(reply, Ok(Reply::Answer(_))), "the message was not written: {reply:?}");
        self.rest().await;
    }

    /// A service's stream so far.
    pub async fn messages(&self, source: &str) -> Vec<(Uuid, Message)> {
        self.rest().await;
        let rows: Vec<(Uuid, String, String)> =
            self.rows(&format!("select key, kind, data from {source}_outbox order by epoch, seq, partition")).await;
        rows.into_iter().map(|(key, kind, data)| (key, Message::decode(&kind, &data).expect("stored messages decode"))).collect()
    }

    /// Runs one job until it has nothing left to do.
    pub async fn job(&self, name: &str) {
        let mut jobs = std::iter::once(&self.process).chain(&self.others).flat_map(Process::jobs);
        let job = jobs.find(|job| job.name == name).unwrap_or_else(|| panic!("there is no job {name}"));
        job.drain().await.expect("the job succeeds");
        self.rest().await;
    }

    pub async fn rows<T: FromRow>(&self, sql: &str) -> Vec<T> {
        let mut reader = self.kit().db.reader().await.expect("a read connection");
        let sql = if self.is_postgres() { rest::for_postgres(sql) } else { sql.to_owned() };
        reader.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
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
    is_patient: bool,
    rest: Option<Arc<Rest>>,
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
        let request = self.builder.body(()).expect("a well-formed request").into_parts().0;
        let changes = request.method != Method::GET;
        let ask = || async {
            let request = Request::from_parts(request.clone(), Body::from(self.body.clone()));
            self.router.clone().oneshot(request).await.expect("the router answers")
        };
        let mut response = ask().await;
        // Where a crowd meets processes apart, some are told to come back; they do.
        let mut times = if self.is_patient { COME_BACK } else { 0 };
        while response.status() == StatusCode::SERVICE_UNAVAILABLE && times > 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response = ask().await;
            times -= 1;
        }
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body arrives").to_bytes();
        if let Some(rest) = self.rest.filter(|_| changes) {
            rest.wait().await;
        }
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
