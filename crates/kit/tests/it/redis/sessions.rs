//! Web sessions (A13), with their source of truth in memory.

use crate::redis::support::{Server, eventually, flush, instance, manual_clock, never_open, prefix};
use futures::future::{BoxFuture, join_all};
use kit::{
    auth::web_sessions::{ActiveSession, SessionHash, SessionResult, SessionSecret, SessionSource, Sessions},
    http::Cursors,
    keys::TAG_BYTES,
    ports::{Clock, SystemClock},
    redis::{Redis, cmd},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

const LIFETIME: Duration = Duration::from_secs(1_800);

/// The session table of accounts, in memory. Clones share the table.
#[derive(Clone, Default)]
struct Rows(Arc<Inner>);

#[derive(Default)]
struct Inner {
    rows: Mutex<HashMap<[u8; 32], ActiveSession<String>>>,
    loads: AtomicU32,
    down: AtomicBool,
}

impl Rows {
    fn open(&self, name: &str, clock: &Arc<dyn Clock>) -> String {
        let secret = SessionSecret::fresh();
        let session = ActiveSession { data: name.to_owned(), expires_at: clock.now().after(LIFETIME) };
        self.0.rows.lock().unwrap().insert(secret.hash().0, session);
        secret.text()
    }

    /// Ends a session, as the process of `sessions` does.
    fn end(&self, cookie: &str, sessions: &Sessions<Rows>) {
        let id = SessionHash::of_cookie(cookie).unwrap();
        self.0.rows.lock().unwrap().remove(&id.0);
        sessions.invalidate(id);
    }

    fn loads(&self) -> u32 {
        self.0.loads.load(Ordering::SeqCst)
    }
}

impl SessionSource for Rows {
    type Data = String;
    type Error = &'static str;

    fn load(&self, id: SessionHash) -> BoxFuture<'_, SessionResult<String, &'static str>> {
        Box::pin(async move {
            self.0.loads.fetch_add(1, Ordering::SeqCst);
            if self.0.down.load(Ordering::SeqCst) {
                return Err("the database is down");
            }
            tokio::task::yield_now().await;
            Ok(self.0.rows.lock().unwrap().get(&id.0).cloned())
        })
    }
}

fn sessions(rows: &Rows, redis: Option<Redis>, clock: &Arc<dyn Clock>) -> Sessions<Rows> {
    Sessions::new(rows.clone(), redis, "pages", Cursors::new(&[7; 32]), Arc::clone(clock))
}

async fn session_data(sessions: &Sessions<Rows>, cookie: &str) -> Option<String> {
    sessions.find(cookie).await.unwrap().map(|session| session.data)
}

// A13
#[tokio::test]
async fn instances_share_a_session_after_one_load() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let (one, two) = (sessions(&rows, Some(instance(&prefix)), &clock), sessions(&rows, Some(instance(&prefix)), &clock));
    let cookie = rows.open("member 1", &clock);
    for _ in 0..10 {
        assert_eq!(session_data(&one, &cookie).await.as_deref(), Some("member 1"));
        assert_eq!(session_data(&two, &cookie).await.as_deref(), Some("member 1"));
    }
    assert_eq!(rows.loads(), 1);
}

#[tokio::test]
async fn concurrent_lookups_cause_one_load() {
    let (rows, (_, clock)) = (Rows::default(), manual_clock());
    let sessions = sessions(&rows, None, &clock);
    let cookie = rows.open("member 1", &clock);
    let found = join_all((0..50).map(|_| session_data(&sessions, &cookie))).await;
    assert!(found.iter().all(Option::is_some));
    assert_eq!(rows.loads(), 1);
    session_data(&sessions, &cookie).await;
    assert_eq!(rows.loads(), 2, "nothing is cached without Redis");
}

// A13, row 28
#[tokio::test]
async fn an_ended_session_is_rejected_everywhere() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let (one, two) = (sessions(&rows, Some(instance(&prefix)), &clock), sessions(&rows, Some(instance(&prefix)), &clock));
    let (ended, other) = (rows.open("member 1", &clock), rows.open("member 1", &clock));
    for sessions in [&one, &two] {
        assert!(session_data(sessions, &ended).await.is_some());
    }
    rows.end(&ended, &two);
    assert_eq!(session_data(&two, &ended).await, None, "at once on the instance that ended it");
    eventually("on other instances once Redis has the change", || async { session_data(&one, &ended).await.is_none() }).await;
    for sessions in [&one, &two] {
        assert!(session_data(sessions, &other).await.is_some());
    }
}

#[tokio::test]
async fn an_expired_session_is_rejected_although_cached() {
    let (prefix, rows, (manual, clock)) = (prefix(), Rows::default(), manual_clock());
    let sessions = sessions(&rows, Some(instance(&prefix)), &clock);
    let cookie = rows.open("member 1", &clock);
    manual.advance(LIFETIME - Duration::from_secs(1));
    let found = sessions.find(&cookie).await.unwrap().expect("the session has a second left");
    assert_eq!(found.expires_at, clock.now().after(Duration::from_secs(1)));
    manual.advance(Duration::from_secs(1));
    assert_eq!((session_data(&sessions, &cookie).await, rows.loads()), (None, 1));
}

#[tokio::test]
async fn the_secret_is_stored_nowhere() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let redis = instance(&prefix);
    let sessions = sessions(&rows, Some(redis.clone()), &clock);
    let cookie = rows.open("member 1", &clock);
    session_data(&sessions, &cookie).await;
    let secret = SessionSecret::fresh();
    assert!(!format!("{secret:?}").contains(&secret.text()));
    let keys: Vec<String> = redis.call(cmd("KEYS").arg(format!("{prefix}*"))).await.unwrap();
    let copies: Vec<&String> = keys.iter().filter(|key| key.contains("copy")).collect();
    assert_eq!(copies.len(), 1, "{keys:?}");
    let kept: HashMap<String, Vec<u8>> = redis.call(cmd("HGETALL").arg(copies[0])).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(field, value)| (field, String::from_utf8_lossy(value))).collect();
    assert!(!format!("{keys:?} {kept:?}").contains(&cookie));
    let left: i64 = redis.call(cmd("PTTL").arg(copies[0])).await.unwrap();
    assert!(left > 0 && left <= 60_000, "{left}");
}

// A13: write access to Redis gives no session, neither a new one nor another member's
#[tokio::test]
async fn a_forged_cache_entry_is_ignored() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let redis = instance(&prefix);
    let sessions = sessions(&rows, Some(redis.clone()), &clock);
    let copies = async || {
        let keys: Vec<String> = redis.call(cmd("KEYS").arg(format!("{prefix}*copy*"))).await.unwrap();
        keys
    };
    let owner = rows.open("operator", &clock);
    assert!(session_data(&sessions, &owner).await.is_some());
    let owners = copies().await.remove(0);
    let mine = rows.open("member 1", &clock);
    assert!(session_data(&sessions, &mine).await.is_some());
    let own = copies().await.into_iter().find(|key| *key != owners).expect("two entries exist");
    let kept = async |key: &str| {
        let fields: HashMap<String, Vec<u8>> = redis.call(cmd("HGETALL").arg(key)).await.unwrap();
        fields.into_iter().find(|(_, value)| value.ends_with(b"}")).expect("a copy is JSON behind a signature")
    };
    let (field, copy) = kept(&own).await;
    let (signature, text) = copy.split_at(TAG_BYTES);
    let changed = String::from_utf8_lossy(text).replace("member 1", "operator");
    for forged in [kept(&owners).await.1, [signature, changed.as_bytes()].concat(), changed.clone().into_bytes(), Vec::new()] {
        let _: i64 = redis.call(cmd("HSET").arg(&own).arg(&field).arg(forged)).await.unwrap();
        assert_eq!(session_data(&sessions, &mine).await.as_deref(), Some("member 1"), "{changed}");
    }
    // An unchanged entry is valid: the operator's session was not loaded again.
    assert!(session_data(&sessions, &owner).await.is_some());
    assert_eq!(rows.loads(), 2 + 4);
}

// A13: guessing causes at most one load per guess
#[tokio::test]
async fn a_malformed_cookie_causes_no_load() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let sessions = sessions(&rows, Some(instance(&prefix)), &clock);
    let cookie = rows.open("member 1", &clock);
    for nonsense in ["", "x", "../../etc/passwd", &"A".repeat(10_000), &format!("{cookie}="), &cookie[1..], &format!("{cookie}A")] {
        assert_eq!(session_data(&sessions, nonsense).await, None);
    }
    assert_eq!(rows.loads(), 0);
    let wrong: Vec<String> = (0..500).map(|_| SessionSecret::fresh().text()).collect();
    assert!(join_all(wrong.iter().map(|cookie| session_data(&sessions, cookie))).await.iter().all(Option::is_none));
    assert_eq!(rows.loads(), 500);
    assert!(session_data(&sessions, &cookie).await.is_some());
}

// F15
#[tokio::test]
async fn a_lost_redis_costs_loads_but_no_session() {
    let mut server = Server::start().await;
    let (rows, (_, clock)) = (Rows::default(), manual_clock());
    let redis = server.connect(never_open(), Arc::new(SystemClock));
    let one = sessions(&rows, Some(redis.clone()), &clock);
    let cookie = rows.open("member 1", &clock);
    assert!(session_data(&one, &cookie).await.is_some());
    flush(&redis).await;
    assert!(session_data(&one, &cookie).await.is_some(), "emptied");
    server.kill();
    assert!(session_data(&one, &cookie).await.is_some(), "gone");
    let new = rows.open("member 2", &clock);
    rows.end(&cookie, &one);
    assert_eq!(session_data(&one, &cookie).await, None);
    server.restart().await;
    assert_eq!(session_data(&one, &new).await.as_deref(), Some("member 2"));
    assert_eq!(session_data(&one, &cookie).await, None);
}

// F15: a session ends while Redis is unreachable
#[tokio::test]
async fn a_session_ended_while_redis_hung_stays_ended() {
    let server = Server::start().await;
    let (rows, (_, clock)) = (Rows::default(), manual_clock());
    let new = || sessions(&rows, Some(server.connect(never_open(), Arc::new(SystemClock))), &clock);
    let (one, two) = (new(), new());
    let cookie = rows.open("member 1", &clock);
    assert!(session_data(&two, &cookie).await.is_some(), "the session is cached");
    server.freeze();
    rows.end(&cookie, &one);
    assert_eq!(session_data(&one, &cookie).await, None, "at once on the instance that ended it");
    server.thaw();
    eventually("on other instances once Redis has the change", || async { session_data(&two, &cookie).await.is_none() }).await;
}

#[tokio::test]
async fn a_failed_database_leaves_cached_sessions_usable() {
    let (prefix, rows, (_, clock)) = (prefix(), Rows::default(), manual_clock());
    let sessions = sessions(&rows, Some(instance(&prefix)), &clock);
    let (known, unknown) = (rows.open("member 1", &clock), rows.open("member 2", &clock));
    assert!(session_data(&sessions, &known).await.is_some());
    rows.0.down.store(true, Ordering::SeqCst);
    assert!(session_data(&sessions, &known).await.is_some());
    assert_eq!(*sessions.find(&unknown).await.unwrap_err(), "the database is down");
}
