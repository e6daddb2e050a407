//! Sessions of web pages, the same in every process (A13).
//!
//! A session is a secret in a cookie and a small value behind it. The database has the truth, through [`SessionTruth`]; Redis has copies
//! for a short while, so that a page does not cost a query. Neither has the secret, only its digest: whoever reads them can sign in
//! nowhere. Losing Redis costs one load from the database a session.
//!
//! This owns no table and no cookie: which rows the truth is, who may have a session, and the attributes of the cookie are for the
//! service that owns accounts.

use super::{
    Redis,
    shared::{Found, Generation, Shared},
};
use crate::{
    cache::Cache,
    ports::{Clock, random_bytes},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::Timestamp;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc, time::Duration};

/// A copy is at most this old: so long may a session live that was ended while Redis could not be told.
const COPY: Duration = Duration::from_secs(60);
/// A session is made longer when this part of its time is gone, so that not every page writes.
const SLIDE_AFTER: u32 = 10;
/// Loads from the truth under way at a time that others can join.
const FLIGHTS: u64 = 10_000;

/// What the cookie says: 32 random bytes. Only the browser keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(String);

impl SessionSecret {
    fn new() -> SessionSecret {
        SessionSecret(BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
    }

    /// For the cookie's value; of letters, digits, `-` and `_`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// The name of a session wherever it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionHash(pub [u8; 32]);

impl SessionHash {
    /// `None`: this is no cookie of ours, and nothing needs to be looked up.
    pub fn of_cookie(value: &str) -> Option<SessionHash> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).ok().filter(|bytes| bytes.len() == 32)?;
        Some(SessionHash(Sha256::digest(bytes).into()))
    }

    fn name(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// A session that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session<T> {
    pub data: T,
    pub expires_at: Timestamp,
}

/// A session, if there is one.
pub type Loaded<D, E> = Result<Option<Session<D>>, E>;

/// Where sessions really are: rows of a database, by digest. Every answer is durable.
pub trait SessionTruth: Send + Sync + 'static {
    /// What a session knows: who it is, in a few bytes.
    type Data: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    type Error: Send + Sync + 'static;

    fn open(&self, id: SessionHash, session: Session<Self::Data>) -> BoxFuture<'_, Result<(), Self::Error>>;

    /// The session, unless it is unknown or was ended. One that has expired may be returned or not.
    fn load(&self, id: SessionHash) -> BoxFuture<'_, Loaded<Self::Data, Self::Error>>;

    /// Moves the end, never of a session that was ended. False: it was, or is unknown.
    fn extend(&self, id: SessionHash, expires_at: Timestamp) -> BoxFuture<'_, Result<bool, Self::Error>>;

    /// Ends a session, for good. Ending one that is unknown is no error.
    fn end(&self, id: SessionHash) -> BoxFuture<'_, Result<(), Self::Error>>;
}

/// The sessions of all processes with this Redis and this truth. Cheap to clone.
pub struct Sessions<T: SessionTruth> {
    truth: Arc<T>,
    copies: Option<Shared>,
    flights: Cache<SessionHash, Option<Session<T::Data>>>,
    idle: Duration,
    clock: Arc<dyn Clock>,
}

impl<T: SessionTruth> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        Self {
            truth: Arc::clone(&self.truth),
            copies: self.copies.clone(),
            flights: self.flights.clone(),
            idle: self.idle,
            clock: Arc::clone(&self.clock),
        }
    }
}

impl<T: SessionTruth> Sessions<T> {
    /// Sessions end when they were not used for `idle`. `name` tells these from other sessions in Redis. Must be called within the runtime.
    pub fn new(truth: Arc<T>, redis: Option<Redis>, name: &str, idle: Duration, clock: Arc<dyn Clock>) -> Self {
        let copies = redis.map(|redis| Shared::new(redis, &format!("session:{name}"), COPY.min(idle)));
        Self { truth, copies, flights: Cache::new(FLIGHTS, Duration::from_secs(1)), idle, clock }
    }

    /// Starts a session; its secret is for the cookie.
    pub async fn open(&self, data: T::Data) -> Result<SessionSecret, T::Error> {
        let secret = SessionSecret::new();
        let id = SessionHash::of_cookie(secret.as_str()).expect("a secret is 32 bytes in base64");
        self.truth.open(id, Session { data, expires_at: self.clock.now().after(self.idle) }).await?;
        Ok(secret)
    }

    /// The session of this cookie, which lives on from now. `None`: there is none, or it has ended.
    pub async fn find(&self, cookie: &str) -> Loaded<T::Data, Arc<T::Error>> {
        let Some(id) = SessionHash::of_cookie(cookie) else { return Ok(None) };
        let now = self.clock.now();
        let found = match self.look(id).await {
            Ok(copy) => Some(copy),
            Err(generation) => self.load(id, generation).await?,
        };
        let Some(mut session) = found.filter(|session| now < session.expires_at) else { return Ok(None) };
        if session.expires_at.since(now) + self.idle / SLIDE_AFTER <= self.idle {
            let expires_at = now.after(self.idle);
            let lives = self.truth.extend(id, expires_at).await?;
            self.forget(id).await;
            if !lives {
                return Ok(None);
            }
            session.expires_at = expires_at;
        }
        Ok(Some(session))
    }

    /// Ends the session of this cookie. Afterwards no process finds it; if Redis cannot be told, others find it for a minute at most.
    pub async fn end(&self, cookie: &str) -> Result<(), T::Error> {
        let Some(id) = SessionHash::of_cookie(cookie) else { return Ok(()) };
        self.truth.end(id).await?;
        self.forget(id).await;
        Ok(())
    }

    /// For sessions that were ended in the truth by other means, such as all of one member: drops what was copied of them.
    pub async fn forget(&self, id: SessionHash) {
        self.flights.forget(&id);
        if let Some(copies) = &self.copies
            && let Err(error) = copies.forget_now(&id.name()).await
        {
            tracing::warn!(%error, "Redis was not told that a session changed; its copy there may live for a minute");
        }
    }

    /// The copy, or what is needed to keep one.
    async fn look(&self, id: SessionHash) -> Result<Session<T::Data>, Option<Generation>> {
        let Some(copies) = &self.copies else { return Err(None) };
        match copies.look(&id.name()).await {
            Found::Value(bytes) => serde_json::from_slice(&bytes).map_err(|_| None),
            Found::Nothing(generation) => Err(Some(generation)),
            Found::Unknown => Err(None),
        }
    }

    /// From the truth; many who ask at once for the same session cause one load.
    async fn load(&self, id: SessionHash, generation: Option<Generation>) -> Loaded<T::Data, Arc<T::Error>> {
        let loaded = self
            .flights
            .get_or_load(id, async {
                let found = self.truth.load(id).await?;
                if let (Some(copies), Some(generation), Some(session)) = (&self.copies, generation, &found)
                    && let Ok(bytes) = serde_json::to_vec(session)
                {
                    copies.keep(&id.name(), generation, &bytes).await;
                }
                Ok(found)
            })
            .await;
        // Only those who came meanwhile share it: the next one asks again.
        self.flights.forget(&id);
        loaded
    }
}

impl<T: SessionTruth> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("idle", &self.idle).field("copies", &self.copies).finish_non_exhaustive()
    }
}
