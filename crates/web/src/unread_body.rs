//! Bodies that a request leaves unread when its answer is ready.
//!
//! hyper closes a connection with unread bytes, and does not announce it. A client or proxy that sends its next request on such a
//! connection loses it. So the server reads a short rest before it answers, and announces the end of the connection otherwise.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Longest rest of a body that is read for the sake of the connection, in bytes.
const MAX_REST: u64 = 64 * 1024;
/// Time for the rest of a body. The answer waits for it.
const REST_TIME: Duration = Duration::from_secs(1);

/// Body of a request that is given back when its handler drops it.
pub(super) struct TrackedBody {
    /// `None`: at its end.
    incoming: Option<Incoming>,
    /// True when the client waits for `100 Continue`, which the first read sends.
    is_awaited: bool,
    end: BodyEnd,
}

/// State of a [`TrackedBody`] after its handler.
#[derive(Clone, Default)]
pub(super) struct BodyEnd(Arc<Mutex<Remains>>);

#[derive(Default)]
enum Remains {
    /// The handler, or a task of its, still reads.
    #[default]
    InUse,
    /// Read to its end.
    Nothing,
    Unread(Incoming),
    /// The rest cannot be read: framed badly, or the client waits for `100 Continue`.
    Unreadable,
}

impl TrackedBody {
    pub fn new(incoming: Incoming, is_awaited: bool) -> (TrackedBody, BodyEnd) {
        let end = BodyEnd::default();
        (TrackedBody { incoming: Some(incoming), is_awaited, end: end.clone() }, end)
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        this.is_awaited = false;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        let remains = match &frame {
            None => Remains::Nothing,
            Some(Err(_)) => Remains::Unreadable,
            Some(Ok(_)) => return Poll::Ready(frame),
        };
        this.incoming = None;
        *this.end.0.lock() = remains;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            *self.end.0.lock() = match incoming {
                incoming if incoming.is_end_stream() => Remains::Nothing,
                _ if self.is_awaited => Remains::Unreadable,
                incoming => Remains::Unread(incoming),
            };
        }
    }
}

impl BodyEnd {
    /// Gives the answer once the connection can be used again, or has its end announced.
    pub fn finish(&self, response: Response) -> FinishedResponse {
        match std::mem::take(&mut *self.0.lock()) {
            Remains::InUse | Remains::Nothing => FinishedResponse::Ready(response),
            Remains::Unreadable => FinishedResponse::Ready(closing(response)),
            Remains::Unread(rest) if rest.size_hint().lower() > MAX_REST => FinishedResponse::Ready(closing(response)),
            Remains::Unread(rest) => {
                FinishedResponse::Waiting(Box::new(UnreadRest { response, rest, count: 0, timer: Box::pin(sleep(REST_TIME)) }))
            }
        }
    }
}

/// An answer that waits for the rest of its request, or does not.
pub(super) enum FinishedResponse {
    Ready(Response),
    Waiting(Box<UnreadRest>),
}

pub(super) struct UnreadRest {
    response: Response,
    rest: Incoming,
    count: u64,
    timer: Pin<Box<Sleep>>,
}

impl Future for FinishedResponse {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match self.get_mut() {
            FinishedResponse::Ready(response) => Poll::Ready(std::mem::take(response)),
            FinishedResponse::Waiting(waiting) => waiting.poll_rest(cx),
        }
    }
}

impl UnreadRest {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            match Pin::new(&mut self.rest).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(std::mem::take(&mut self.response)),
                Poll::Ready(Some(Ok(frame))) => self.count += frame.data_ref().map_or(0, |data| data.len() as u64),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(closing(std::mem::take(&mut self.response))),
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    return Poll::Ready(closing(std::mem::take(&mut self.response)));
                }
            }
            if self.count > MAX_REST {
                return Poll::Ready(closing(std::mem::take(&mut self.response)));
            }
        }
    }
}

/// The answer, with the announcement that the connection ends.
pub(super) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
