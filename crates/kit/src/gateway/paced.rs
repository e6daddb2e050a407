//! An answer on its way through: each piece goes on as it comes, and a peer that stops in the middle does not hold the client for ever.

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

/// Ends with an error when no piece comes for the given time; that cuts the client's connection, so that it sees that the answer is not
/// whole. Dropped (because the client went away), it closes the peer's connection.
struct Paced {
    body: Incoming,
    stall_time: Duration,
    timer: Pin<Box<Sleep>>,
}

/// The peer's answer as ours.
pub(super) fn paced(body: Incoming, stall_time: Option<Duration>) -> Body {
    match stall_time {
        _ if body.is_end_stream() => Body::empty(),
        None => Body::new(body),
        Some(stall_time) => Body::new(Paced { body, stall_time, timer: Box::pin(sleep(stall_time)) }),
    }
}

impl HttpBody for Paced {
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
