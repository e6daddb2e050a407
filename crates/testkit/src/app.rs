//! The mall of a test, or a part of it: services on a database of their own, behind the real router.

use super::{
    AppBuilder, TempFolder, TestRequest,
    backends::{Processes, Shape, TestBackends, round_robin},
    builder::lifted_limits,
    quiescence::{self, Quiescence},
    stub_service::{Emit, StubService},
};
use axum::Router;
use bytes::Bytes;
use contracts::{MemberId, Message, Timestamp};
use http::{Method, Request};
use kit::{
    auth::Role,
    batch::Reply,
    db::{FromRow, Synchronous},
    engine::EngineSettings,
    module::Kit,
    ports::{ManualClock, new_id},
    process::{DEFAULT_QUEUE, PostgresSettings, Process},
    tasks::ShutdownTrigger,
    testing::Faults,
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// 2026-11-20T00:00:00Z: the start of every test's clock.
pub const START: Timestamp = Timestamp(1_795_132_800_000_000);

/// Services on a database of their own, behind the real router. Time moves and jobs run only when the test says so.
pub struct App {
    pub process: Process,
    pub clock: ManualClock,
    pub faults: Faults,
    /// The routers of all processes, in turn.
    pub router: Router,
    routers: Vec<Router>,
    /// Further processes of the same mall.
    other_processes: Vec<Process>,
    servers: Vec<ShutdownTrigger>,
    folder: TempFolder,
    /// Partitions of each stream. With Kafka all processes must use the same number.
    pub(super) partitions: i64,
    pub(super) backends: TestBackends,
    shape: Shape,
    quiescence: Arc<Quiescence>,
}

impl App {
    /// Commits are not synced here, because tests kill processes and never cut the power. Tests on the real binary cover power loss.
    pub fn builder() -> AppBuilder {
        AppBuilder {
            // Tests of dead letters must not wait. Tests of retries set a time.
            engine: EngineSettings { dead_letter_after: Duration::ZERO, ..EngineSettings::default() },
            synchronous: Synchronous::Normal,
            queue: DEFAULT_QUEUE,
            folder: TempFolder::new(),
            clock: ManualClock::at(START),
            backends: None,
            partitions: 1,
            readers: 4,
            faults: Faults::planned(),
            limits: lifted_limits(),
        }
    }

    pub(super) async fn assemble(builder: AppBuilder, processes: Processes, backends: TestBackends, shape: Shape) -> App {
        let AppBuilder { clock, faults, folder, partitions, .. } = builder;
        let Processes { mut all, routers, servers, quiescence } = processes;
        quiescence.watch_faults(&faults);
        let process = all.remove(0);
        let router = round_robin(routers.clone());
        let app =
            App { process, other_processes: all, servers, clock, faults, router, routers, folder, partitions, backends, shape, quiescence };
        app.wait_until_quiescent().await;
        app
    }

    /// Stops all processes.
    pub async fn stop(self) {
        let _ = self.stop_processes().await;
    }

    pub(super) async fn stop_processes(self) -> (AppBuilder, Shape) {
        let App { process, other_processes, servers, clock, folder, partitions, backends, shape, .. } = self;
        for server in servers {
            server.stop();
        }
        process.stop().await;
        for process in other_processes {
            process.stop().await;
        }
        (AppBuilder { folder, clock, partitions, backends: Some(backends), ..Self::builder() }, shape)
    }

    /// The product's settings for this test's database. `None`: the database is a SQLite file.
    pub fn postgres(&self) -> Option<PostgresSettings> {
        self.backends.database.as_ref().map(|database| PostgresSettings::at(database.url()))
    }

    /// The kit of a process that runs this service.
    pub fn kit_of(&self, service: &str) -> &Kit {
        &self.processes_running(service).next().unwrap_or(&self.process).kit
    }

    /// The number of processes of the mall.
    pub fn instances(&self) -> usize {
        self.processes().count()
    }

    /// The number of processes that run this service.
    pub fn instances_of(&self, service: &str) -> usize {
        self.processes_running(service).count()
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        std::iter::once(&self.process).chain(&self.other_processes)
    }

    fn processes_running(&self, service: &str) -> impl Iterator<Item = &Process> {
        self.processes().filter(move |process| process.services.iter().any(|found| found.name() == service))
    }

    pub fn is_postgres(&self) -> bool {
        self.backends.database.is_some()
    }

    /// Waits until only held messages are in flight. On SQLite it returns at once: later hops belong to the same transaction, or the test
    /// waits for them with [`App::eventually`].
    pub async fn wait_until_quiescent(&self) {
        if self.is_postgres() {
            self.quiescence.wait().await;
        }
    }

    /// True when no message is in flight or held, on any database.
    pub async fn is_quiescent(&self) -> bool {
        self.quiescence.lag().await.is_ok_and(|lag| lag == 0)
    }

    pub fn kit(&self) -> &Kit {
        &self.process.kit
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// An access token for this member, as sign-in would issue it.
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
            routers: self.routers.clone(),
            // Tests that run in several shapes wait for hops themselves. A wait after each of a thousand requests would change what they
            // test.
            quiescence: (self.is_postgres() && self.shape == Shape::Solo).then(|| Arc::clone(&self.quiescence)),
            is_retried: self.shape != Shape::Solo,
            builder: Request::builder().method(method).uri(path.into()),
            body: Bytes::new(),
        }
    }

    /// Writes a message into a service's stream, in one transaction. Returns after the commit, which includes folded readers.
    pub async fn emit(&self, source: &'static str, key: impl Into<Uuid>, message: Message) {
        self.emit_all(source, key, vec![message]).await;
    }

    pub async fn emit_all(&self, source: &'static str, key: impl Into<Uuid>, messages: Vec<Message>) {
        let kit = self.kit_of(source);
        let stub = Arc::new(StubService::new(kit, source));
        let reply = kit.batch.submit(&stub, Emit { key: key.into(), messages }, None, Uuid::nil()).await;
        assert!(matches!(reply, Ok(Reply::Answer(_))), "the message was not written: {reply:?}");
        self.wait_until_quiescent().await;
    }

    /// All messages of a service's stream.
    pub async fn messages(&self, source: &str) -> Vec<(Uuid, Message)> {
        self.wait_until_quiescent().await;
        let rows: Vec<(Uuid, String, String)> =
            self.rows(&format!("select key, kind, data from {source}_outbox order by epoch, seq, partition")).await;
        rows.into_iter().map(|(key, kind, data)| (key, Message::decode(&kind, &data).expect("stored messages decode"))).collect()
    }

    /// Runs one job until it has nothing left to do.
    pub async fn job(&self, name: &str) {
        let mut jobs = self.processes().flat_map(Process::jobs);
        let job = jobs.find(|job| job.name == name).unwrap_or_else(|| panic!("there is no job {name}"));
        job.drain().await.expect("the job succeeds");
        self.wait_until_quiescent().await;
    }

    pub async fn rows<T: FromRow>(&self, sql: &str) -> Vec<T> {
        let mut reader = self.kit().db.reader().await.expect("a read connection");
        let sql = if self.is_postgres() { quiescence::to_postgres(sql) } else { sql.to_owned() };
        reader.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn sql_i64(&self, sql: &str) -> i64 {
        self.rows::<(i64,)>(sql).await.first().map(|(value,)| *value).expect("the query has a row")
    }

    /// Waits until a query returns this number; readers catch up within moments. Fails after ten seconds.
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
