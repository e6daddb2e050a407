//! Web sessions, shared by all processes (A13).
//!
//! A session is a secret in a cookie, and a small value on the server. The database holds the truth, behind [`SessionSource`]. Redis holds
//! short-lived copies, so that a page does not cost a query. Both store only the secret's digest, so a reader of either cannot sign in.
//! Copies are signed, so a writer to Redis cannot forge a session. Losing Redis costs one load from the database for each session.
//!
//! This module owns no table and no cookie. The service that owns accounts decides on the rows, the owners and lifetimes of sessions, and
//! the cookie's attributes. That service opens and ends sessions itself, and reports ended ones with [`Sessions::invalidate`].

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use cache::{
    Cache,
    redis::{
        Redis,
        entries::{EntryLookup, Generation, SharedEntries},
    },
};
use contracts::Timestamp;
use futures::future::BoxFuture;
use runtime::{
    keys::TAG_BYTES,
    ports::{Clock, random_bytes},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc, time::Duration};
use web::Cursors;

/// Maximum age of a copy. For this long a session may still be found that ended while Redis was unreachable.
const COPY_TTL: Duration = Duration::from_secs(60);
/// Separates signatures of session copies from other signatures.
const SIGNATURE_CONTEXT: &str = "copy of a session";
/// Concurrent loads from the database that other callers can join.
const MAX_SHARED_LOADS: u64 = 10_000;

/// The value of the cookie: 32 random bytes. Only the browser stores it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    pub fn fresh() -> SessionSecret {
        SessionSecret(random_bytes())
    }

    /// The text of the cookie's value: letters, digits, `-` and `_`.
    pub fn text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn hash(&self) -> SessionHash {
        SessionHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// The stored name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionHash(pub [u8; 32]);

impl SessionHash {
    /// `None`: this is not a cookie of ours, so no look-up is needed.
    pub fn of_cookie(value: &str) -> Option<SessionHash> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).ok()?;
        bytes.try_into().ok().map(|secret| SessionSecret(secret).hash())
    }

    fn name(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// A session that has neither ended nor expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSession<T> {
    pub data: T,
    pub expires_at: Timestamp,
}

/// A session, or `None` if there is none.
pub type SessionResult<D, E> = Result<Option<ActiveSession<D>>, E>;

/// The source of sessions: rows of a database, by digest.
pub trait SessionSource: Send + Sync + 'static {
    /// The value of a session: its owner, in a few bytes.
    type Data: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    type Error: Send + Sync + 'static;

    /// Loads a session. `None`: unknown, ended or expired. A session in use is loaded every minute. If use extends a session's life, this
    /// call moves its end.
    fn load(&self, id: SessionHash) -> BoxFuture<'_, SessionResult<Self::Data, Self::Error>>;
}

/// The sessions of all processes with this Redis and this source. Cheap to clone.
pub struct Sessions<T: SessionSource> {
    source: Arc<T>,
    copies: Option<SharedEntries>,
    loads: Cache<SessionHash, Option<ActiveSession<T::Data>>, T::Error>,
    signer: Cursors,
    clock: Arc<dyn Clock>,
}

impl<T: SessionSource> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        let (source, clock) = (Arc::clone(&self.source), Arc::clone(&self.clock));
        Self { source, copies: self.copies.clone(), loads: self.loads.clone(), signer: self.signer.clone(), clock }
    }
}

impl<T: SessionSource> Sessions<T> {
    /// `name` separates these sessions from others in Redis; change it when the encoding of the data changes. `signer` derives from the
    /// mall's secret. With Redis this must be called within the runtime.
    pub fn new(source: T, redis: Option<Redis>, name: &str, signer: Cursors, clock: Arc<dyn Clock>) -> Self {
        let copies = redis.map(|redis| SharedEntries::new(redis, &format!("session:{name}"), COPY_TTL));
        Self { source: Arc::new(source), copies, loads: Cache::new(MAX_SHARED_LOADS, Duration::from_secs(1)), signer, clock }
    }

    /// The session of this cookie. `None`: unknown or ended.
    pub async fn find(&self, cookie: &str) -> SessionResult<T::Data, Arc<T::Error>> {
        let Some(id) = SessionHash::of_cookie(cookie) else { return Ok(None) };
        let found = match self.look_up_copy(id).await {
            Ok(copy) => Some(copy),
            Err(generation) => self.load_shared(id, generation).await?,
        };
        let now = self.clock.now();
        Ok(found.filter(|session| now < session.expires_at))
    }

    /// Reports that a session has ended in the database. This process no longer finds it. Other processes stop once Redis knows, which is
    /// at once if it answers. Otherwise they may find it for a minute. Commit hooks may call this.
    pub fn invalidate(&self, id: SessionHash) {
        self.loads.invalidate(&id);
        if let Some(copies) = &self.copies {
            copies.invalidate(&id.name());
        }
    }

    /// The copy. `Err`: there is no copy; the generation, if any, permits storing one.
    async fn look_up_copy(&self, id: SessionHash) -> Result<ActiveSession<T::Data>, Option<Generation>> {
        let Some(copies) = &self.copies else { return Err(None) };
        match copies.get(&id.name()).await {
            EntryLookup::Value(copy) => self.verify_copy(id, &copy).ok_or(None),
            EntryLookup::Missing(generation) => Err(Some(generation)),
            EntryLookup::Unknown => Err(None),
        }
    }

    /// The stored form of a copy: its signature for this session, then the bytes.
    fn sign_copy(&self, id: SessionHash, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.signer.tag(SIGNATURE_CONTEXT, &[&id.0, bytes].concat()).to_vec();
        copy.extend_from_slice(bytes);
        copy
    }

    fn verify_copy(&self, id: SessionHash, copy: &[u8]) -> Option<ActiveSession<T::Data>> {
        let (tag, bytes) = copy.split_at_checked(TAG_BYTES)?;
        if !self.signer.verify_tag(SIGNATURE_CONTEXT, &[&id.0, bytes].concat(), tag) {
            tracing::error!("session copy in Redis rejected: not signed by this mall");
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    /// Loads from the source. Concurrent callers for the same session share one load.
    async fn load_shared(&self, id: SessionHash, generation: Option<Generation>) -> SessionResult<T::Data, Arc<T::Error>> {
        let loaded = self
            .loads
            .get_or_load(id, async {
                let found = self.source.load(id).await?;
                if let (Some(copies), Some(generation), Some(session)) = (&self.copies, generation, &found)
                    && let Ok(bytes) = serde_json::to_vec(session)
                {
                    copies.put(&id.name(), generation, &self.sign_copy(id, &bytes)).await;
                }
                Ok(found)
            })
            .await;
        // Only concurrent callers share the result. The next caller loads again.
        self.loads.invalidate(&id);
        loaded
    }
}

impl<T: SessionSource> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("copies", &self.copies).finish_non_exhaustive()
    }
}
