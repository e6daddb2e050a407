//! Sessions of web pages (A13), over a truth in memory.

use crate::support::{Server, eventually, fearless, instance, manual_clock, prefix};
use contracts::Timestamp;
use futures::future::{BoxFuture, join_all};
use kit::{
    ports::{Clock, SystemClock},
    redis::{
        Redis, cmd,
        sessions::{Loaded, Session, SessionHash, SessionTruth, Sessions},
    },
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

const IDLE: Duration = Duration::from_secs(1_800);

/// What the accounts service has in its tables.
#[derive(Default)]
struct Rows {
    rows: Mutex<HashMap<[u8; 32], Session<String>>>,
    loads: AtomicU32,
    extended: AtomicU32,
    down: AtomicBool,
}

impl Rows {
    fn up(&self) -> Result<(), &'static str> {
        if self.down.load(Ordering::SeqCst) { Err("the database is down") } else { Ok(()) }
    }
    fn loads(&self) -> u32 {
        self.loads.load(Ordering::SeqCst)
    }
}

impl SessionTruth for Rows {
    type Data = String;
    type Error = &'static str;

    fn open(&self, id: SessionHash, session: Session<String>) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(async move {
            self.up()?;
            self.rows.lock().unwrap().insert(id.0, session);
            Ok(())
        })
    }

    fn load(&self, id: SessionHash) -> BoxFuture<'_, Loaded<String, &'static str>> {
        Box::pin(async move {
            self.loads.fetch_add(1, Ordering::SeqCst);
            self.up()?;
            tokio::task::yield_now().await;
            Ok(self.rows.lock().unwrap().get(&id.0).cloned())
        })
    }

    fn extend(&self, id: SessionHash, expires_at: Timestamp) -> BoxFuture<'_, Result<bool, &'static str>> {
        Box::pin(async move {
            self.up()?;
            self.extended.fetch_add(1, Ordering::SeqCst);
            let mut rows = self.rows.lock().unwrap();
            Ok(rows.get_mut(&id.0).map(|row| row.expires_at = expires_at).is_some())
        })
    }

    fn end(&self, id: SessionHash) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(async move {
            self.up()?;
            self.rows.lock().unwrap().remove(&id.0);
            Ok(())
        })
    }
}

fn sessions(rows: &Arc<Rows>, redis: Option<Redis>, clock: &Arc<dyn Clock>) -> Sessions<Rows> {
    Sessions::new(Arc::clone(rows), redis, "pages", IDLE, Arc::clone(clock))
}

async fn who(sessions: &Sessions<Rows>, cookie: &str) -> Option<String> {
    sessions.find(cookie).await.unwrap().map(|session| session.data)
}

// A13
#[tokio::test]
async fn every_instance_knows_the_session_and_asks_the_database_once() {
    let (prefix, rows, (_, clock)) = (prefix(), Arc::new(Rows::default()), manual_clock());
    let (one, two) = (sessions(&rows, Some(instance(&prefix)), &clock), sessions(&rows, Some(instance(&prefix)), &clock));
    let cookie = one.open("member 1".into()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(who(&one, cookie.as_str()).await.as_deref(), Some("member 1"));
        assert_eq!(who(&two, cookie.as_str()).await.as_deref(), Some("member 1"));
    }
    assert_eq!((rows.loads(), rows.extended.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn many_at_once_cause_one_load() {
    let (rows, (_, clock)) = (Arc::new(Rows::default()), manual_clock());
    let sessions = sessions(&rows, None, &clock);
    let cookie = sessions.open("member 1".into()).await.unwrap();
    let found = join_all((0..50).map(|_| who(&sessions, cookie.as_str()))).await;
    assert!(found.iter().all(Option::is_some));
    assert_eq!(rows.loads(), 1);
    who(&sessions, cookie.as_str()).await;
    assert_eq!(rows.loads(), 2, "without Redis nothing is remembered");
}

#[tokio::test]
async fn an_ended_session_is_found_by_nobody() {
    let (prefix, rows, (_, clock)) = (prefix(), Arc::new(Rows::default()), manual_clock());
    let (one, two) = (sessions(&rows, Some(instance(&prefix)), &clock), sessions(&rows, Some(instance(&prefix)), &clock));
    let (ended, other) = (one.open("member 1".into()).await.unwrap(), one.open("member 1".into()).await.unwrap());
    for sessions in [&one, &two] {
        assert!(who(sessions, ended.as_str()).await.is_some());
    }
    two.end(ended.as_str()).await.unwrap();
    two.end(ended.as_str()).await.expect("again is no error");
    for sessions in [&one, &two] {
        assert_eq!(who(sessions, ended.as_str()).await, None);
        assert!(who(sessions, other.as_str()).await.is_some());
    }
    // By the database alone, as when a member is locked out: the copies are dropped by their digests.
    rows.rows.lock().unwrap().clear();
    one.forget(SessionHash::of_cookie(other.as_str()).unwrap()).await;
    assert_eq!(who(&two, other.as_str()).await, None);
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_is_used() {
    let (prefix, rows, (manual, clock)) = (prefix(), Arc::new(Rows::default()), manual_clock());
    let (one, two) = (sessions(&rows, Some(instance(&prefix)), &clock), sessions(&rows, Some(instance(&prefix)), &clock));
    let cookie = one.open("member 1".into()).await.unwrap();
    for round in 0..10 {
        manual.advance(IDLE / 2);
        let sessions = if round % 2 == 0 { &one } else { &two };
        let session = sessions.find(cookie.as_str()).await.unwrap().expect("it was used half the time ago");
        assert_eq!(session.expires_at, clock.now().after(IDLE));
    }
    assert_eq!(rows.extended.load(Ordering::SeqCst), 10);
    manual.advance(IDLE);
    for sessions in [&one, &two] {
        assert_eq!(who(sessions, cookie.as_str()).await, None, "also where the row is still there");
    }
    // Ended in the database alone, and then used: it does not come back to life.
    let cookie = one.open("member 1".into()).await.unwrap();
    assert!(who(&one, cookie.as_str()).await.is_some());
    rows.rows.lock().unwrap().clear();
    manual.advance(IDLE / 2);
    assert_eq!(who(&one, cookie.as_str()).await, None);
}

#[tokio::test]
async fn the_secret_is_stored_nowhere_and_nonsense_is_not_looked_up() {
    let (prefix, rows, (_, clock)) = (prefix(), Arc::new(Rows::default()), manual_clock());
    let redis = instance(&prefix);
    let sessions = sessions(&rows, Some(redis.clone()), &clock);
    let cookie = sessions.open("member 1".into()).await.unwrap();
    who(&sessions, cookie.as_str()).await;
    assert!(!format!("{cookie:?}").contains(cookie.as_str()));
    let keys: Vec<String> = redis.call(cmd("KEYS").arg(format!("{prefix}*"))).await.unwrap();
    let copies: Vec<&String> = keys.iter().filter(|key| key.contains("copy")).collect();
    assert_eq!(copies.len(), 1, "{keys:?}");
    let kept: HashMap<String, String> = redis.call(cmd("HGETALL").arg(copies[0])).await.unwrap();
    assert!(!format!("{keys:?} {kept:?}").contains(cookie.as_str()));
    let left: i64 = redis.call(cmd("PTTL").arg(copies[0])).await.unwrap();
    assert!(left > 0 && left <= 60_000, "{left}");
    let before = rows.loads();
    for nonsense in ["", "x", "../../etc/passwd", &"A".repeat(10_000), &format!("{}=", cookie.as_str())] {
        assert_eq!(who(&sessions, nonsense).await, None);
    }
    assert_eq!(rows.loads(), before);
    assert_eq!(who(&sessions, &"A".repeat(43)).await, None, "well formed, and nobody's");
}

// F15
#[tokio::test]
async fn losing_redis_costs_loads_and_no_session() {
    let mut server = Server::start().await;
    let (rows, (_, clock)) = (Arc::new(Rows::default()), manual_clock());
    let one = sessions(&rows, Some(server.connect(fearless(), Arc::new(SystemClock))), &clock);
    let cookie = one.open("member 1".into()).await.unwrap();
    assert!(who(&one, cookie.as_str()).await.is_some());
    server.kill();
    assert!(who(&one, cookie.as_str()).await.is_some());
    let new = one.open("member 2".into()).await.unwrap();
    one.end(cookie.as_str()).await.unwrap();
    assert_eq!(who(&one, cookie.as_str()).await, None);
    server.restart().await;
    assert_eq!(who(&one, new.as_str()).await.as_deref(), Some("member 2"));
    assert_eq!(who(&one, cookie.as_str()).await, None);
}

// F15: a session is ended while Redis cannot be told
#[tokio::test]
async fn a_session_that_was_ended_while_redis_hung_is_gone_when_it_is_back() {
    let server = Server::start().await;
    let (rows, (_, clock)) = (Arc::new(Rows::default()), manual_clock());
    let new = || sessions(&rows, Some(server.connect(fearless(), Arc::new(SystemClock))), &clock);
    let (one, two) = (new(), new());
    let cookie = one.open("member 1".into()).await.unwrap();
    assert!(who(&two, cookie.as_str()).await.is_some(), "there is a copy");
    server.freeze();
    one.end(cookie.as_str()).await.unwrap();
    server.thaw();
    assert_eq!(who(&one, cookie.as_str()).await, None, "at once where it was ended");
    eventually("elsewhere as soon as Redis is told", || async { who(&two, cookie.as_str()).await.is_none() }).await;
}

#[tokio::test]
async fn when_the_database_fails_the_caller_is_told_and_the_copies_go_on() {
    let (prefix, rows, (_, clock)) = (prefix(), Arc::new(Rows::default()), manual_clock());
    let sessions = sessions(&rows, Some(instance(&prefix)), &clock);
    let known = sessions.open("member 1".into()).await.unwrap();
    let unknown = sessions.open("member 2".into()).await.unwrap();
    assert!(who(&sessions, known.as_str()).await.is_some());
    rows.down.store(true, Ordering::SeqCst);
    assert!(who(&sessions, known.as_str()).await.is_some());
    assert_eq!(*sessions.find(unknown.as_str()).await.unwrap_err(), "the database is down");
    assert!(sessions.open("member 3".into()).await.is_err());
    assert!(sessions.end(known.as_str()).await.is_err());
    assert!(who(&sessions, known.as_str()).await.is_some(), "it was not ended");
}
