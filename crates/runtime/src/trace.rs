//! Trace id of the running request. A call to another process carries it without a parameter in every function in between.
//!
//! The id is set only while the future of the request is polled, so it never leaks into another request. Spawned tasks have none.

use crate::ports::{new_id, random_bytes};
use http::HeaderValue;
use std::cell::Cell;
use uuid::Uuid;

/// W3C trace id of the request that caused a change.
pub type TraceId = Uuid;

thread_local! {
    static CURRENT: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// Guard of [`enter`]. Dropping it restores the previous trace.
#[must_use]
pub struct Entered(Option<Uuid>);

/// Makes `trace` the [`current`] one until the guard is dropped.
#[inline]
pub fn enter(trace: Uuid) -> Entered {
    Entered(CURRENT.replace(Some(trace)))
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Trace of the running request, or a new one outside of requests.
#[inline]
pub fn current() -> Uuid {
    CURRENT.get().unwrap_or_else(new_id)
}

/// W3C `traceparent` header for a request to another process.
pub fn traceparent(trace: Uuid) -> HeaderValue {
    // Zero is not a valid parent id.
    let parent = u64::from_be_bytes(random_bytes()) | 1;
    HeaderValue::try_from(format!("00-{}-{parent:016x}-01", trace.simple())).expect("hex digits are a header value")
}

/// Value of the `x-request-id` header, in the form used in responses and logs.
pub fn request_id(trace: Uuid) -> HeaderValue {
    HeaderValue::try_from(trace.simple().to_string()).expect("hex digits are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_guard_restores_the_previous_trace() {
        let (outer, inner) = (Uuid::from_u128(1), Uuid::from_u128(2));
        {
            let _outer = enter(outer);
            {
                let _inner = enter(inner);
                assert_eq!(current(), inner);
            }
            assert_eq!(current(), outer);
        }
        assert!(![outer, inner].contains(&current()));
    }
}
