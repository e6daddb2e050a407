//! The one reader of whole bodies: of input, of forwarded requests, and of calls from other processes.

use super::Problem;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use contracts::Code;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// Timeout for a complete body, so that a client that sends a byte a second cannot hold a connection for long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the whole body of at most `limit` bytes. A body that declares more is refused before it is read.
pub async fn read_whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    read_within(body, limit, BODY_TIMEOUT).await
}

async fn read_within(body: Body, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(Problem::new(Code::BadRequest, "The body ended early or is not framed as declared.")),
        Err(_) => Err(Problem::new(Code::Timeout, "The body did not arrive in time.")),
    }
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
        let problem = read_within(never, 100, Duration::from_millis(20)).await.expect_err("it never comes");
        assert_eq!((problem.code(), problem.code().status()), (Code::Timeout, 408));
    }
}
