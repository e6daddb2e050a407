//! Raw bodies, for requests that are not parsed as input: forwarded requests, and calls from other processes.

use super::Problem;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use contracts::Code;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// Timeout for a complete body, the same as for input.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the whole body of at most `limit` bytes. A body that declares more is refused before it is read.
pub(crate) async fn read_whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::BodyTooLarge, format!("The body may have at most {limit} bytes."));
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::BadRequest, "The body ended early or is not framed as declared.")),
        Err(_) => Err(Problem::new(Code::Timeout, "The body did not arrive in time.")),
    }
}
