//! End-to-end test of the HTTP machinery: a small service behind the real router, writer and database.

use super::run;
use crate::{
    Kit, Module,
    extract::{MaybeSignedIn, Operator, Seller, SignedIn},
    process::{Database, Process, ProcessSettings},
};
use auth::{Role, limits::LimitSettings};
use axum::{
    Json, Router,
    body::Body,
    response::Response,
    routing::{get, post},
};
use contracts::{Code, MemberId, Timestamp};
use db::{Migration, Synchronous, params};
use engine::{Answer, Command, EngineSettings, Fault, Outcome, Work};
use garde::Validate;
use http::{HeaderMap, Request};
use runtime::{
    failpoints::Faults,
    ports::{ManualClock, new_id},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tower::ServiceExt;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;
use web::{Input, Listing, Path, Peer, Problem, ProblemBody, Query, State, Trace, layers, page_limit, rules};

struct Notes {
    kit: Kit,
}

const MIGRATIONS: &[Migration] =
    &[Migration::new(1, "init", "create table notes_notes (id UUID not null primary key, text TEXT not null) without rowid;")];

crate::module! {
    impl Module for Notes {
        name: "notes",
        migrations: MIGRATIONS,
        router: Notes::routes,
    }
}

impl Notes {
    fn routes(self: Arc<Self>) -> OpenApiRouter {
        let routes: Router<Arc<Notes>> = Router::new()
            .route("/v1/notes", get(list).post(write))
            .route("/v1/notes/{id}", get(|Path(id): Path<MemberId>| async move { id.to_string() }))
            .route("/v1/notes/late", post(|State(me): State<Arc<Notes>>, trace: Trace| async move { run(&me, Late, None, trace).await }))
            .route("/v1/sold", get(|_: Seller| async { "" }))
            .route("/v1/operated", get(|_: Operator| async { "" }))
            .route(
                "/v1/seen",
                get(|MaybeSignedIn(caller): MaybeSignedIn| async move { caller.map_or("nobody", |caller| caller.role.as_str()) }),
            )
            .route("/v1/from", get(|peer: Peer| async move { peer.source().to_string() }));
        OpenApiRouter::from(routes.with_state(self))
    }
}

#[derive(Deserialize, Validate)]
#[serde(deny_unknown_fields)]
struct NewNote {
    #[garde(custom(rules::text(20)))]
    text: String,
}

async fn write(
    State(notes): State<Arc<Notes>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<NewNote>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    run(&notes, Write { id: new_id(), text: input.value.text }, Some(key), trace).await
}

#[derive(Deserialize)]
struct Page {
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Lists the numbers below ten in pages.
async fn list(State(notes): State<Arc<Notes>>, Query(page): Query<Page>) -> Result<Json<Listing<u32>>, Problem> {
    let limit = page_limit(page.limit)?;
    let first: u32 = page.cursor.map_or(Ok(0), |text| notes.kit.cursors.decode("notes.list", &text))?;
    let items: Vec<u32> = (first..10).take(limit as usize).collect();
    let next = items.last().map(|last| last + 1).filter(|next| *next < 10);
    Ok(Json(Listing { items, next_cursor: next.map(|next| notes.kit.cursors.encode("notes.list", &next)) }))
}

struct Write {
    id: Uuid,
    text: String,
}

impl Command for Write {
    type Service = Notes;
    const OPERATION: &'static str = "notes.write";

    async fn handle<'a>(_: &'a Notes, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::new();
        for command in commands {
            if command.text == "taken" {
                outcomes.push(Code::AlreadyIssued.into());
                continue;
            }
            work.tx.execute("insert into notes_notes (id, text) values ($1, $2)", &params![command.id, &command.text]).await?;
            outcomes.push(Answer::json(201, &json!({"id": command.id}))?.at(format!("/v1/notes/{}", command.id)).into());
        }
        Ok(outcomes)
    }
}

struct Late;

impl Command for Late {
    type Service = Notes;
    const OPERATION: &'static str = "notes.late";

    async fn handle<'a>(_: &'a Notes, _: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        Ok(commands.iter().map(|_| Outcome::Deferred(Uuid::from_u128(7))).collect())
    }
}

struct TestApp {
    process: Process,
    router: Router,
    folder: PathBuf,
    token: String,
}

struct TestResponse {
    status: u16,
    headers: HeaderMap,
    body: Value,
    bytes: Vec<u8>,
}

impl TestResponse {
    fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["trace_id"].as_str().map(str::len), Some(32), "{}", self.body);
        (self.status, self.body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or_default())
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl TestApp {
    async fn open(queue: usize) -> TestApp {
        let folder = std::env::temp_dir().join(format!("onrush-http-{}", new_id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let settings = ProcessSettings {
            database: Database::Sqlite { path: folder.join("onrush.db"), synchronous: Synchronous::Normal },
            kafka: None,
            apart: None,
            redis: None,
            engine: EngineSettings::default(),
            queue,
            limits: LimitSettings::off(),
            secret: [7; 32],
            clock: Arc::new(ManualClock::at(Timestamp(1_795_132_800_000_000))),
            faults: Faults::default(),
        };
        let build = |kit: &Kit| vec![Arc::new(Notes { kit: kit.clone() }) as Arc<dyn Module>];
        let process = Process::start(settings, build).await.expect("it starts");
        let router = layers(process.router.clone());
        let token = token(&process, Role::Customer, 1);
        TestApp { process, router, folder, token }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TestResponse {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            self.router.clone().oneshot(request.body(Body::from(body.to_owned())).expect("a request")).await.expect("it answers");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1_000_000).await.expect("it is in memory").to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        TestResponse { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }

    async fn write(&self, token: &str, key: &str, text: &str) -> TestResponse {
        let headers = [("authorization", &*format!("Bearer {token}")), ("content-type", "application/json"), ("idempotency-key", key)];
        self.ask("POST", "/v1/notes", &headers, &json!({"text": text}).to_string()).await
    }

    async fn count(&self) -> i64 {
        let mut reader = self.process.kit.db.reader().await.expect("a reader");
        let rows: Vec<(i64,)> = reader.query("select count(*) from notes_notes", &[]).await.expect("the table is there");
        rows[0].0
    }

    async fn close(self) {
        self.process.stop().await;
        std::fs::remove_dir_all(&self.folder).expect("it was there");
    }
}

fn token(process: &Process, role: Role, member: u128) -> String {
    process.kit.auth.issue(MemberId(Uuid::from_u128(member)), role, new_id(), process.kit.clock.now())
}

// rows 56, 57, 59, 60
#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_request_safe_to_repeat() {
    let app = TestApp::open(64).await;
    let first = app.write(&app.token, "k1", "hello").await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    assert!(first.header("location").is_some_and(|location| location.starts_with("/v1/notes/")));
    let again = app.write(&app.token, "k1", "hello").await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!((&again.bytes, again.header("location")), (&first.bytes, first.header("location")));
    assert_eq!(app.write(&app.token, "k1", "other").await.problem(), (422, "idempotency-key-mismatch"));
    let other = token(&app.process, Role::Customer, 2);
    assert_eq!(app.write(&other, "k1", "hello").await.status, 201);
    assert_eq!(app.count().await, 2);

    let refused = app.write(&app.token, "k2", "taken").await;
    assert_eq!(refused.problem(), (409, "already-issued"));
    let again = app.write(&app.token, "k2", "taken").await;
    assert_eq!((again.bytes.clone(), again.header("idempotent-replayed")), (refused.bytes, Some("true")));

    let bearer = format!("Bearer {}", app.token);
    let without = [("authorization", &*bearer), ("content-type", "application/json")];
    assert_eq!(app.ask("POST", "/v1/notes", &without, r#"{"text":"x"}"#).await.problem(), (400, "idempotency-key-missing"));
    assert_eq!(app.write(&app.token, &"k".repeat(256), "x").await.problem(), (400, "invalid-key"));
    assert_eq!(app.count().await, 2);
    app.close().await;
}

// rows 1-11, 23: a refused request changes nothing; the token is checked before the body
#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_change_nothing() {
    let app = TestApp::open(64).await;
    assert_eq!(app.write("garbage", "k", "x").await.problem(), (401, "unauthenticated"));
    let anonymous = app.ask("POST", "/v1/notes", &[], "{").await;
    assert_eq!((anonymous.problem(), anonymous.header("www-authenticate")), ((401, "unauthenticated"), Some("Bearer")));
    let bearer = format!("Bearer {}", app.token);
    let json = [("authorization", &*bearer), ("content-type", "application/json"), ("idempotency-key", "k")];
    for (body, status, slug) in [
        ("", 400, "malformed-json"),
        ("{", 400, "malformed-json"),
        (r#"{"text":"a","text":"b"}"#, 400, "duplicate-field"),
        (&"[".repeat(10_000), 400, "too-deep"),
        (r#"{"text":"a\u0000"}"#, 422, "invalid-field"),
        (r#"{"text":"a","role":"operator"}"#, 422, "unknown-field"),
        (r#"{"text":7}"#, 422, "invalid-field"),
        (&json!({"text": "x".repeat(21)}).to_string(), 422, "too-long"),
        (&" ".repeat(256 * 1024 + 1), 413, "body-too-large"),
    ] {
        let response = app.ask("POST", "/v1/notes", &json, body).await;
        assert_eq!(response.problem(), (status, slug), "{body:.40}");
        if status == 422 {
            assert!(response.body["errors"][0]["pointer"].as_str().is_some_and(|pointer| pointer.starts_with('/')), "{}", response.body);
        }
    }
    let xml = [("authorization", &*bearer), ("content-type", "application/xml")];
    assert_eq!(app.ask("POST", "/v1/notes", &xml, "<a/>").await.problem(), (415, "unsupported-media-type"));
    assert_eq!(app.count().await, 0);
    assert_eq!(app.write(&app.token, "k", "fine").await.status, 201, "a refused request does not use up its key");
    app.close().await;
}

// rows 17-19, 21
#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let app = TestApp::open(64).await;
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let page = app.ask("GET", &format!("/v1/notes?limit=4{cursor}"), &[], "").await;
        assert_eq!(page.status, 200);
        seen.extend(page.body["items"].as_array().expect("a list").iter().filter_map(Value::as_u64));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..10).collect::<Vec<u64>>());
    for (query, status, slug) in [
        ("limit=0", 422, "invalid-parameter"),
        ("limit=1000000000", 422, "invalid-parameter"),
        ("limit=1&limit=9", 400, "duplicate-parameter"),
        ("sort=id", 422, "invalid-parameter"),
        ("cursor=AAAA", 400, "invalid-cursor"),
    ] {
        assert_eq!(app.ask("GET", &format!("/v1/notes?{query}"), &[], "").await.problem(), (status, slug));
    }
    assert_eq!(app.ask("GET", "/v1/notes/7", &[], "").await.problem(), (404, "not-found"));
    app.close().await;
}

// A5; rows 23, 28, 39, 41
#[tokio::test(flavor = "multi_thread")]
async fn each_route_admits_only_its_roles() {
    let app = TestApp::open(64).await;
    let [customer, seller, operator] = Role::ALL.map(|role| format!("Bearer {}", token(&app.process, role, 3)));
    for (path, caller, status) in [
        ("/v1/sold", &customer, 403),
        ("/v1/sold", &seller, 200),
        ("/v1/sold", &operator, 200),
        ("/v1/operated", &customer, 403),
        ("/v1/operated", &seller, 403),
        ("/v1/operated", &operator, 200),
    ] {
        assert_eq!(app.ask("GET", path, &[("authorization", caller)], "").await.status, status, "{path}");
    }
    assert_eq!(app.ask("GET", "/v1/operated", &[], "").await.problem(), (401, "unauthenticated"));
    assert_eq!(app.ask("GET", "/v1/seen", &[], "").await.bytes, b"nobody");
    assert_eq!(app.ask("GET", "/v1/seen", &[("authorization", &seller)], "").await.bytes, b"seller");
    assert_eq!(app.ask("GET", "/v1/seen", &[("authorization", "Bearer x")], "").await.problem(), (401, "unauthenticated"));
    let forged = [("x-forwarded-for", "203.0.113.9"), ("x-user-id", "1"), ("x-real-ip", "203.0.113.9")];
    assert_eq!(app.ask("GET", "/v1/from", &forged, "").await.bytes, b"0.0.0.0");
    assert_eq!(app.ask("GET", "/v1/operated", &forged, "").await.problem(), (401, "unauthenticated"));
    app.process.kit.auth.revoke_member(MemberId(Uuid::from_u128(3)), app.process.kit.clock.now());
    assert_eq!(app.ask("GET", "/v1/seen", &[("authorization", &operator)], "").await.problem(), (401, "unauthenticated"));
    app.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_result_is_answered_with_its_id() {
    let app = TestApp::open(64).await;
    let response = app.ask("POST", "/v1/notes/late", &[], "").await;
    assert_eq!((response.status, response.body["id"].as_str()), (202, Some(&*Uuid::from_u128(7).to_string())));
    app.close().await;
}

// row 77: a command that does not fit the queue is refused at once
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let app = TestApp::open(1).await;
    let shed = async {
        loop {
            let keys: Vec<String> = (0..200).map(|_| new_id().to_string()).collect();
            let all = futures::future::join_all(keys.iter().map(|key| app.write(&app.token, key, "x"))).await;
            if let Some(response) = all.into_iter().find(|response| response.status != 201) {
                return response;
            }
        }
    };
    let response = tokio::time::timeout(Duration::from_secs(20), shed).await.expect("200 at once do not fit a queue of one");
    assert_eq!((response.problem(), response.header("retry-after")), ((503, "overloaded"), Some("1")));
    app.close().await;
}

#[test]
fn problems_and_pages_are_documented() {
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Thing {
        name: String,
    }
    #[derive(OpenApi)]
    #[openapi(components(schemas(ProblemBody, Listing<Thing>)))]
    struct Api;
    let api = serde_json::to_value(Api::openapi()).expect("it serializes");
    let schemas = &api["components"]["schemas"];
    assert_eq!(schemas["ProblemBody"]["properties"]["errors"]["items"]["$ref"], "#/components/schemas/ProblemField", "{schemas}");
    assert_eq!(schemas["Listing_Thing"]["properties"]["next_cursor"]["type"], json!(["string", "null"]), "{schemas}");
}
