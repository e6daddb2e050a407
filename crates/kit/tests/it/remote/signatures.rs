//! Only processes of the installation may call.

use crate::remote::support::{Double, Installation, SECRET, Server, answering, clock, json, numbers, problem, send, signer, within};
use bytes::Bytes;
use http::{HeaderValue, Request};
use kit::{
    links::{LinkError, RemoteSettings, SIGNATURE, Signer},
    ports::ManualClock,
};
use sha2::{Digest, Sha256};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATH: &str = "/internal/v1/calls/numbers/double";

fn signature(signer: &Signer, method: &str, path: &str, body: &str) -> HeaderValue {
    let digest = Sha256::digest(body.as_bytes());
    signer.sign(&[b"call", method.as_bytes(), path.as_bytes(), &digest])
}

async fn ask(server: &Server, path: &str, body: &'static str, signatures: &[HeaderValue]) -> http::Response<Bytes> {
    let mut request = Request::post(format!("{}{path}", server.url())).body(Bytes::from(body)).expect("a request");
    for signature in signatures {
        request.headers_mut().append(SIGNATURE, signature.clone());
    }
    send(request).await.expect("an answer")
}

#[tokio::test]
async fn only_a_signed_call_is_answered() {
    let clock = clock();
    let (server, asked) = numbers(&clock, SECRET).await;
    let ours = signer(SECRET, &clock);
    let good = signature(&ours, "POST", PATH, "21");
    let answered = ask(&server, PATH, "21", std::slice::from_ref(&good)).await;
    assert_eq!((answered.status().as_u16(), json(&answered)), (200, 42.into()));

    let late = ManualClock::at(crate::remote::support::START.after(Duration::from_secs(61)));
    let early = ManualClock::at(crate::remote::support::START.before(Duration::from_secs(61)));
    for (what, wrong) in [
        ("none", vec![]),
        ("two", vec![good.clone(), good.clone()]),
        ("empty", vec![HeaderValue::from_static("")]),
        ("another secret", vec![signature(&signer([8; 32], &clock), "POST", PATH, "21")]),
        ("from the future", vec![signature(&signer(SECRET, &late), "POST", PATH, "21")]),
        ("too old", vec![signature(&signer(SECRET, &early), "POST", PATH, "21")]),
        ("another body", vec![signature(&ours, "POST", PATH, "22")]),
        ("another method", vec![signature(&ours, "GET", PATH, "21")]),
        ("another path", vec![signature(&ours, "POST", "/internal/v1/calls/numbers/halve", "21")]),
    ] {
        let refused = ask(&server, PATH, "21", &wrong).await;
        assert_eq!(problem(&refused), (401, 3000), "{what}");
    }
    clock.advance(Duration::from_secs(61));
    assert_eq!(problem(&ask(&server, PATH, "21", &[good]).await), (401, 3000), "a captured signature has expired");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Status of the answer to a call whose body is announced but never sent.
async fn without_a_body(server: &Server, signature: &HeaderValue) -> u16 {
    let mut connection = TcpStream::connect(server.address).await.expect("the server listens");
    let signature = signature.to_str().expect("ASCII");
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: numbers\r\ncontent-length: 4000000\r\nonrush-signature: {signature}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("the socket accepts bytes");
    let mut status = [0; 12];
    within(connection.read_exact(&mut status)).await.expect("an answer");
    String::from_utf8_lossy(&status[9..]).parse().expect("a status")
}

// A signature with a wrong form or age is refused before the body is read.
#[tokio::test]
async fn a_malformed_signature_is_refused_before_the_body() {
    let clock = clock();
    let (server, asked) = numbers(&clock, SECRET).await;
    let ours = signer(SECRET, &clock);
    let good = signature(&ours, "POST", PATH, "21");
    let text = good.to_str().expect("ASCII").to_owned();
    let early = ManualClock::at(crate::remote::support::START.before(Duration::from_secs(61)));
    for (what, wrong) in [
        ("nonsense", HeaderValue::from_static("please")),
        ("cut off", HeaderValue::from_str(&text[..text.len() - 3]).expect("a header value")),
        ("too old", signature(&signer(SECRET, &early), "POST", PATH, "21")),
    ] {
        assert_eq!(without_a_body(&server, &wrong).await, 401, "{what}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_invalid_signed_call_gets_a_problem() {
    let clock = clock();
    let (server, _) = numbers(&clock, SECRET).await;
    let ours = signer(SECRET, &clock);
    let unknown = "/internal/v1/calls/numbers/halve";
    assert_eq!(problem(&ask(&server, unknown, "21", &[signature(&ours, "POST", unknown, "21")]).await), (404, 1020));
    assert_eq!(problem(&ask(&server, PATH, "{", &[signature(&ours, "POST", PATH, "{")]).await), (400, 1001));
    let failing = Server::start(answering(&clock, SECRET, async |_| Err("the password is hunter2".to_owned()))).await;
    let failed = ask(&failing, PATH, "1", &[signature(&ours, "POST", PATH, "1")]).await;
    assert_eq!(problem(&failed), (500, 1000));
    assert!(!String::from_utf8_lossy(failed.body()).contains("hunter2"));
}

#[tokio::test]
async fn processes_with_different_secrets_refuse_and_say_why() {
    let (server, asked) = numbers(&clock(), [8; 32]).await;
    let links = Installation::new(&format!("numbers={}", server.url())).links(RemoteSettings::default());
    let error = links.call(Double(1)).await.expect_err("the secrets differ");
    assert!(matches!(&error, LinkError::Failed { reason, .. } if reason.contains("secrets")), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
