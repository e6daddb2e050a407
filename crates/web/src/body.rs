//! The one reader of whole bodies: of input, of forwarded requests, and of calls from other processes.

use super::Problem;
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use contracts::Code;
use http::Extensions;
use http_body_util::BodyExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Timeout for a complete body, so that a client that sends a byte a second cannot hold a connection for long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of each body that count as small. The largest legitimate request, an order of 100 lines, has some 10 KiB.
const SMALL_BODY: usize = 16 * 1024;
/// Memory for the small part of all bodies. Strangers cannot fill it: 8,192 connections with 4 KiB each take half.
const SMALL_MEMORY: usize = 64 * 1024 * 1024;
/// Memory for the rest of larger bodies. Separate, so that large bodies cannot keep out small ones.
const LARGE_MEMORY: usize = 32 * 1024 * 1024;

/// Memory for the bodies of all requests in progress. Clones share it.
///
/// Requests without it are not counted: they come from this process itself.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<FreeMemory>);

#[derive(Debug)]
struct FreeMemory {
    small: AtomicUsize,
    large: AtomicUsize,
}

impl Default for BodyMemory {
    fn default() -> BodyMemory {
        BodyMemory::new(SMALL_MEMORY, LARGE_MEMORY)
    }
}

impl BodyMemory {
    /// Memory of these numbers of bytes, for the first 16 KiB of each body and for the rest.
    pub fn new(small: usize, large: usize) -> BodyMemory {
        BodyMemory(Arc::new(FreeMemory { small: AtomicUsize::new(small), large: AtomicUsize::new(large) }))
    }
}

fn take(free: &AtomicUsize, bytes: usize) -> bool {
    free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
}

/// The memory that one body holds. Dropping it gives the memory back.
#[derive(Default)]
struct BodyClaim {
    memory: Option<BodyMemory>,
    small: usize,
    large: usize,
}

impl BodyClaim {
    /// Takes memory for more bytes. `false`: there is none left.
    fn grow(&mut self, bytes: usize) -> bool {
        let Some(BodyMemory(free)) = &self.memory else { return true };
        let small = bytes.min(SMALL_BODY - self.small);
        let large = bytes - small;
        if !take(&free.small, small) {
            return false;
        }
        self.small += small;
        if !take(&free.large, large) {
            return false;
        }
        self.large += large;
        true
    }
}

impl Drop for BodyClaim {
    fn drop(&mut self) {
        if let Some(BodyMemory(free)) = &self.memory {
            free.small.fetch_add(self.small, Ordering::Relaxed);
            free.large.fetch_add(self.large, Ordering::Relaxed);
        }
    }
}

/// A body with the memory that it holds.
struct ClaimedBytes {
    bytes: Bytes,
    _claim: BodyClaim,
}

impl AsRef<[u8]> for ClaimedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body of at most `limit` bytes. A body that declares more is refused before it is read.
///
/// The bytes count against the [`BodyMemory`] of the request until their last clone is dropped.
pub async fn read_whole(request: &Extensions, body: Body, limit: usize) -> Result<Bytes, Problem> {
    read_within(request, body, limit, BODY_TIMEOUT).await
}

async fn read_within(request: &Extensions, body: Body, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let claim = BodyClaim { memory: request.get::<BodyMemory>().cloned(), ..BodyClaim::default() };
    match tokio::time::timeout(time, collect(body, limit, claim)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new(Code::Timeout, "The body did not arrive in time.")),
    }
}

async fn collect(mut body: Body, limit: usize, mut claim: BodyClaim) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Code::BadRequest, "The body ended early or is not framed as declared."))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        if !claim.grow(data.len()) {
            return Err(Problem::new(Code::Overloaded, "Too many bodies are being received.").retry_after(super::RETRY_AFTER_SECS));
        }
        // Nearly every body is one frame, which needs no copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Bytes::from_owner(ClaimedBytes { bytes, _claim: claim }))
}

pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("The body may have at most {limit} bytes."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;

    // row 15
    #[tokio::test]
    async fn a_body_that_does_not_arrive_times_out() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let problem = read_within(&Extensions::new(), never, 100, Duration::from_millis(20)).await.expect_err("it never comes");
        assert_eq!((problem.code(), problem.code().status()), (Code::Timeout, 408));
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; *size]))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    // M2
    #[tokio::test]
    async fn bodies_hold_memory_until_they_are_dropped() {
        let memory = BodyMemory::new(SMALL_BODY + 10, 100);
        let mut request = Extensions::new();
        request.insert(memory.clone());
        let read = async |sizes: &[usize]| read_whole(&request, chunks(sizes), 1_000_000).await;
        let free = || (memory.0.small.load(Ordering::Relaxed), memory.0.large.load(Ordering::Relaxed));

        let large = read(&[SMALL_BODY, 60, 40]).await.expect("it fits");
        assert_eq!((large.len(), free()), (SMALL_BODY + 100, (10, 0)));
        let clone = large.slice(5..7);
        drop(large);
        assert_eq!(free(), (10, 0), "a clone holds all");
        // A small body still fits.
        drop(read(&[4, 6]).await.expect("it fits"));
        let problem = read(&[4, 7]).await.expect_err("no memory is left");
        assert_eq!((problem.code(), problem.retry_after), (Code::Overloaded, Some(1)));
        drop(clone);
        assert_eq!(free(), (SMALL_BODY + 10, 100));
        assert_eq!(read(&[SMALL_BODY + 101]).await.expect_err("larger than the memory").code(), Code::Overloaded);
        assert_eq!(free(), (SMALL_BODY + 10, 100));
    }
}
