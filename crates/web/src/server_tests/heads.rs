//! Heads of requests: complete, split, bad or slow.

use super::*;

#[tokio::test]
async fn split_and_pipelined_requests_are_answered() {
    let server = start(quick()).await;
    let echo = "POST /v1/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab\r\n\r\n0\r\n\r\n";
    let stream = [HELLO, echo, HELLO, LAST_HELLO].concat();
    let whole = server.exchange(stream.as_bytes()).await;
    assert_eq!((whole.matches("HTTP/1.1 200").count(), whole.matches("\"hello\"").count()), (4, 3), "{whole}");
    let mut slow = server.connect().await;
    for piece in stream.as_bytes().chunks(7) {
        slow.write_all(piece).await.expect("it takes it");
        tokio::task::yield_now().await;
    }
    let pieces = read_to_end(&mut slow).await;
    assert_eq!(pieces.matches("HTTP/1.1 200").count(), 4, "{pieces}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_may_close_its_half_and_still_read() {
    let mut server = start(quick()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    stream.shutdown().await.expect("half of it closes");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.gate.send_replace(true);
    assert!(read_to_end(&mut stream).await.contains("\"through\""));
    let mut stream = server.connect().await;
    let cut = b"POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    stream.write_all(cut).await.expect("it takes it");
    stream.shutdown().await.expect("half of it closes");
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 400 "));
    server.stop().await;
}

// row 16
#[tokio::test]
async fn ambiguous_requests_get_a_problem_and_the_connection_ends() {
    let server = start(quick()).await;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "X: a\r\n folded",
        "X: a\nY: b",
        "X : a",
        "X: a\0b",
    ] {
        let bad = format!("POST /v1/echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n{HELLO}");
        let answer = server.exchange(bad.as_bytes()).await;
        is_problem(&answer, 400, "bad-request");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "nothing behind it is answered: {answer}");
    }
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\nHost: a\n\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n").await, 400, "bad-encoding");
    server.stop().await;
}

// row 16: a bad head behind valid ones does not affect their responses
#[tokio::test]
async fn a_smuggled_request_is_refused_after_the_valid_ones() {
    let server = start(quick()).await;
    let bad = "POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = server.exchange([HELLO, HELLO, bad, HELLO].concat().as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    is_problem(&answer[answer.rfind("HTTP/1.1").expect("an answer")..], 400, "bad-request");
    assert_eq!(answer.matches("HTTP/1.1").count(), 3, "{answer}");
    server.stop().await;
}

// row 14
#[tokio::test]
async fn long_targets_and_headers_get_a_problem() {
    let server = start(ServerSettings::default()).await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64 * 1024));
    is_problem(&server.exchange(target.as_bytes()).await, 414, "uri-too-long");
    let headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(24_000));
    is_problem(&server.exchange(headers.as_bytes()).await, 431, "headers-too-large");
    let one = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1024 * 1024));
    is_problem(&server.exchange(one.as_bytes()).await, 431, "headers-too-large");
    server.stop().await;
}

// row 15
#[tokio::test]
async fn slow_heads_time_out_without_delaying_others() {
    let server = start(quick()).await;
    let silent = server.connect().await;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /v1/hello HTTP/1.1\r\nHos").await.expect("it takes it");
        slow.push(stream);
    }
    let answer = server.exchange(LAST_HELLO.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for mut stream in slow {
        // One more byte does not extend the timeout.
        let _ = stream.write_all(b"t").await;
        is_problem(&read_to_end(&mut stream).await, 408, "timeout");
    }
    let mut silent = silent;
    assert_eq!(read_to_end(&mut silent).await, "");
    server.stop().await;
}

// L1, L13
#[tokio::test]
async fn bad_hosts_targets_and_expectations_get_a_problem() {
    let server = start(quick()).await;
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a/b?c#@\r\n\r\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET ftp://a/v1/hello HTTP/1.1\r\nHost: a\r\n\r\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a\r\nExpect: other\r\n\r\n").await, 417, "expectation-failed");
    let absolute = b"GET http://shop.example/v1/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(server.exchange(absolute).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}
