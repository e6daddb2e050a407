//! Streamed answers.

use crate::remote::support::{Installation, Server, TIME_LIMIT, document, within};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::Stream;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kit::{
    gateway::GatewaySettings,
    http::client::{Client, ClientSettings},
};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::mpsc;

/// Pieces of an answer, sent by the test. Dropping it tells the test that the client has left.
struct Pieces {
    pieces: mpsc::UnboundedReceiver<&'static str>,
    _gone: mpsc::UnboundedSender<()>,
}

impl Stream for Pieces {
    type Item = Result<&'static str, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

struct EventClient {
    say: mpsc::UnboundedSender<&'static str>,
    gone: mpsc::UnboundedReceiver<()>,
    answer: http::Response<Incoming>,
    _servers: [Server; 2],
}

/// A client behind a gateway, in front of a service that streams the test's pieces.
async fn listen(kind: &'static str, stall_time: Duration) -> EventClient {
    let (say, receiver) = mpsc::unbounded_channel();
    let (left, gone) = mpsc::unbounded_channel();
    let pieces = Arc::new(Mutex::new(Some(Pieces { pieces: receiver, _gone: left })));
    let handler = async move || -> Response {
        let pieces = pieces.lock().expect("no panic").take().expect("the handler runs once");
        ([("content-type", kind)], Body::from_stream(pieces)).into_response()
    };
    let service = Server::start(Router::new().route("/v1/events", get(handler))).await;
    let installation = Installation::new(&format!("things={}", service.url()));
    let settings = GatewaySettings { stall_time, ..GatewaySettings::default() };
    let gateway = Server::start(installation.gateway(settings).routes("things", &document())).await;
    let request = Request::get(format!("{}/v1/events", gateway.url())).header("accept", kind).body(Bytes::new()).expect("a request");
    let answer = Client::new(ClientSettings::default()).open(request, TIME_LIMIT).await.expect("the head arrives before any piece");
    EventClient { say, gone, answer, _servers: [service, gateway] }
}

async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    within(body.frame()).await.map(|frame| frame.map(|frame| frame.into_data().expect("no trailers")))
}

#[tokio::test]
async fn events_pass_one_by_one() {
    // Silence between events is not a fault, regardless of its length.
    let mut client = listen("text/event-stream", Duration::ZERO).await;
    assert_eq!(client.answer.headers()["content-type"], "text/event-stream");
    for event in ["data: 1\n\n", "data: 2\n\n", ": still here\n\n"] {
        tokio::task::yield_now().await;
        client.say.send(event).expect("the service listens");
        assert_eq!(next(client.answer.body_mut()).await.expect("it goes on").expect("the frame is complete"), event);
    }
    drop(client.say);
    assert!(next(client.answer.body_mut()).await.is_none(), "the end of the stream is forwarded");
}

#[tokio::test]
async fn a_client_disconnect_cancels_the_upstream_stream() {
    let mut client = listen("text/event-stream", Duration::ZERO).await;
    client.say.send("data: 1\n\n").expect("the service listens");
    next(client.answer.body_mut()).await.expect("a frame arrives").expect("the frame is complete");
    drop(client.answer);
    // The server notices a closed connection at its next write.
    let (say, mut gone) = (client.say, client.gone);
    within(async {
        loop {
            let _ = say.send("data: more\n\n");
            tokio::select! {
                left = gone.recv() => break assert_eq!(left, None),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stalled_answer_is_cut_off_as_incomplete() {
    let mut client = listen("application/json", Duration::from_secs(1)).await;
    client.say.send("[1,").expect("the service listens");
    assert_eq!(next(client.answer.body_mut()).await.expect("a frame arrives").expect("the frame is complete"), "[1,");
    let end = next(client.answer.body_mut()).await;
    assert!(matches!(end, Some(Err(_))), "{end:?}");
}
