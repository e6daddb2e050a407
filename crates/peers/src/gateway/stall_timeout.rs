//! Response body with a stall timeout: passes pieces on as they arrive, and fails when the peer stops in the middle.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Body that fails when no piece arrives within `stall_time`. The error closes the client's connection, which shows the client that the
/// response is incomplete. If the client disconnects, dropping the body closes the connection to the peer.
struct StallTimeoutBody {
    body: Incoming,
    stall_time: Duration,
    timer: Pin<Box<Sleep>>,
}

/// Turns the peer's response body into ours. `None`: no stall timeout.
pub(super) fn with_stall_timeout(body: Incoming, stall_time: Option<Duration>) -> Body {
    match stall_time {
        _ if body.is_end_stream() => Body::empty(),
        None => Body::new(body),
        Some(stall_time) => Body::new(StallTimeoutBody { body, stall_time, timer: Box::pin(sleep(stall_time)) }),
    }
}

impl HttpBody for StallTimeoutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer.as_mut().reset(Instant::now() + this.stall_time);
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        ready!(this.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
