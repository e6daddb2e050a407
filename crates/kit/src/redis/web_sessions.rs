//! Sessions of web pages, the same in every process (A13).
//!
//! A session is a secret in a cookie and a small value behind it. The database has the truth, which answers through [`SessionTruth`]; Redis
//! has copies for a short while, so that a page does not cost a query. Neither has the secret, only its digest: whoever reads them can sign
//! in nowhere. Copies are signed: whoever writes to Redis can make no session. Losing Redis costs one load from the database a session.
//!
//! This owns no table and no cookie: which rows the truth is, who may have a session and for how long, and the attributes of the cookie are
//! for the service that owns accounts. That service opens and ends sessions by itself; here it only says which ones ended ([`Sessions::forget`]).

use super::{
    Redis,
    entries::{Found, Generation, Shared},
};
use crate::{
    cache::Cache,
    http::{Cursors, TAG},
    ports::{Clock, random_bytes},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::Timestamp;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc, time::Duration};

/// A copy is at most this old: so long may a session be found that was ended while Redis could not be told.
const COPY_TTL: Duration = Duration::from_secs(60);
/// What the signature of a copy is of.
const SIGNATURE_CONTEXT: &str = "copy of a session";
/// Loads from the truth under way at a time that others can join.
const MAX_SHARED_LOADS: u64 = 10_000;

/// What the cookie says: 32 random bytes. Only the browser keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    pub fn fresh() -> SessionSecret {
        SessionSecret(random_bytes())
    }

    /// For the cookie's value; of letters, digits, `-` and `_`.
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

/// The name of a session wherever it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionHash(pub [u8; 32]);

impl SessionHash {
    /// `None`: this is no cookie of ours, and nothing needs to be looked up.
    pub fn of_cookie(value: &str) -> Option<SessionHash> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value).ok()?;
        bytes.try_into().ok().map(|secret| SessionSecret(secret).hash())
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

/// Where sessions really are: rows of a database, by digest.
pub trait SessionTruth: Send + Sync + 'static {
    /// What a session knows: who it is, in a few bytes.
    type Data: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    type Error: Send + Sync + 'static;

    /// The session, unless it is unknown, was ended or has expired. A session that is used is asked for every minute: where it lives on by
    /// being used, this moves its end.
    fn load(&self, id: SessionHash) -> BoxFuture<'_, Loaded<Self::Data, Self::Error>>;
}

/// The sessions of all processes with this Redis and this truth. Cheap to clone.
pub struct Sessions<T: SessionTruth> {
    source: Arc<T>,
    copies: Option<Shared>,
    loads: Cache<SessionHash, Option<Session<T::Data>>>,
    signer: Cursors,
    clock: Arc<dyn Clock>,
}

impl<T: SessionTruth> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        let (source, clock) = (Arc::clone(&self.source), Arc::clone(&self.clock));
        Self { source, copies: self.copies.clone(), loads: self.loads.clone(), signer: self.signer.clone(), clock }
    }
}

impl<T: SessionTruth> Sessions<T> {
    /// `name` tells these from other sessions in Redis, and changes when the form of the data does. `signer` is of the mall's secret. With
    /// Redis it must be called within the runtime.
    pub fn new(source: T, redis: Option<Redis>, name: &str, signer: Cursors, clock: Arc<dyn Clock>) -> Self {
        let copies = redis.map(|redis| Shared::new(redis, &format!("session:{name}"), COPY_TTL));
        Self { source: Arc::new(source), copies, loads: Cache::new(MAX_SHARED_LOADS, Duration::from_secs(1)), signer, clock }
    }

    /// The session of this cookie. `None`: there is none, or it has ended.
    pub async fn find(&self, cookie: &str) -> Loaded<T::Data, Arc<T::Error>> {
        let Some(id) = SessionHash::of_cookie(cookie) else { return Ok(None) };
        let found = match self.look_up_copy(id).await {
            Ok(copy) => Some(copy),
            Err(generation) => self.load_shared(id, generation).await?,
        };
        let now = self.clock.now();
        Ok(found.filter(|session| now < session.expires_at))
    }

    /// To be called when a session was ended in the truth: this process does not find it from now on, and no other one once Redis is told,
    /// which is at once if it answers. If it does not, others may find it for a minute. Usable from a commit hook.
    pub fn forget(&self, id: SessionHash) {
        self.loads.forget(&id);
        if let Some(copies) = &self.copies {
            copies.forget(&id.name());
        }
    }

    /// The copy, or what is needed to keep one.
    async fn look_up_copy(&self, id: SessionHash) -> Result<Session<T::Data>, Option<Generation>> {
        let Some(copies) = &self.copies else { return Err(None) };
        match copies.look(&id.name()).await {
            Found::Value(copy) => self.verify_copy(id, &copy).ok_or(None),
            Found::Nothing(generation) => Err(Some(generation)),
            Found::Unknown => Err(None),
        }
    }

    /// A copy as it is kept: signed as that of this session.
    fn sign_copy(&self, id: SessionHash, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.signer.tag(SIGNATURE_CONTEXT, &[&id.0, bytes].concat()).to_vec();
        copy.extend_from_slice(bytes);
        copy
    }

    fn verify_copy(&self, id: SessionHash, copy: &[u8]) -> Option<Session<T::Data>> {
        let (tag, bytes) = copy.split_at_checked(TAG)?;
        if !self.signer.is_tag(SIGNATURE_CONTEXT, &[&id.0, bytes].concat(), tag) {
            tracing::error!("a copy of a session in Redis was not made by this mall");
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    /// From the truth; many who ask at once for the same session cause one load.
    async fn load_shared(&self, id: SessionHash, generation: Option<Generation>) -> Loaded<T::Data, Arc<T::Error>> {
        let loaded = self
            .loads
            .get_or_load(id, async {
                let found = self.source.load(id).await?;
                if let (Some(copies), Some(generation), Some(session)) = (&self.copies, generation, &found)
                    && let Ok(bytes) = serde_json::to_vec(session)
                {
                    copies.keep(&id.name(), generation, &self.sign_copy(id, &bytes)).await;
                }
                Ok(found)
            })
            .await;
        // Only those who came meanwhile share it: the next one asks again.
        self.loads.forget(&id);
        loaded
    }
}

impl<T: SessionTruth> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("copies", &self.copies).finish_non_exhaustive()
    }
}
