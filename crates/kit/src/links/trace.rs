//! Which request the code that runs now belongs to, so that a question to another process carries its trace without every function in
//! between passing it on.
//!
//! It is set while the request's own future is polled, and so never leaks to another one. What runs in a task of its own has none.

use crate::ports::{new_id, random_bytes};
use http::HeaderValue;
use std::cell::Cell;
use uuid::Uuid;

thread_local! {
    static CURRENT: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// Until this is dropped, [`current`] is the given trace.
#[must_use]
pub(crate) struct Entered(Option<Uuid>);

pub(crate) fn enter(trace: Uuid) -> Entered {
    Entered(CURRENT.replace(Some(trace)))
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// The running request's trace, else a new one.
pub(crate) fn current() -> Uuid {
    CURRENT.get().unwrap_or_else(new_id)
}

/// The W3C header that makes the other side part of this trace.
pub(crate) fn traceparent(trace: Uuid) -> HeaderValue {
    // Zero is not a valid parent.
    let parent = u64::from_be_bytes(random_bytes()) | 1;
    HeaderValue::try_from(format!("00-{}-{parent:016x}-01", trace.simple())).expect("hex digits are a header value")
}

/// The id as people read it in answers and logs.
pub(crate) fn request_id(trace: Uuid) -> HeaderValue {
    HeaderValue::try_from(trace.simple().to_string()).expect("hex digits are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_ends_with_its_guard() {
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
