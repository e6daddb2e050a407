//! Bodies of requests: broken, too large, or not read.

use super::*;

// row 16
#[tokio::test]
async fn a_broken_chunk_ends_the_connection() {
    let server = start(quick()).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = server.exchange(format!("{head}2\r\n{{}}\n0\r\n\r\n{HELLO}").as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    server.stop().await;
}

// row 9
#[tokio::test]
async fn a_body_over_the_limit_is_answered_while_it_is_still_sent() {
    let server = start(ServerSettings::default()).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let sized = format!("{head}Content-Length: 10000000\r\n\r\n{}", " ".repeat(10_000_000));
    let answer = server.exchange(sized.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    // A chunked body that this client never ends.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    chunked.push_str(&format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(500));
    let answer = server.exchange(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    server.stop().await;
}

// M2
#[tokio::test]
async fn bodies_beyond_the_memory_are_refused() {
    let server = start(ServerSettings { body_memory: BodyMemory::new(1_000_000, 1_000), ..ServerSettings::default() }).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 17300\r\n\r\n";
    let body = format!("{:<17300}", "{}");
    let mut unfinished = server.connect().await;
    unfinished.write_all(format!("{head}{}", &body[..17_200]).as_bytes()).await.expect("it takes it");
    // The server reads the unfinished one at some time.
    for _ in 0..1_000 {
        let mut stream = server.connect().await;
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it takes it");
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 503") {
            assert!(answer.contains("retry-after: 1"), "{answer}");
            unfinished.write_all(&body.as_bytes()[17_200..]).await.expect("it takes it");
            let finished = read_until(&mut unfinished, "\r\n\r\n").await;
            assert!(finished.starts_with("HTTP/1.1 200"), "{finished}");
            return server.stop().await;
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    panic!("no body was refused");
}

// M5
#[tokio::test]
async fn a_connection_survives_a_short_unread_body() {
    let server = start(ServerSettings::default()).await;
    let json = "Content-Type: application/json\r\n";
    for (status, request) in [
        (200, "GET /v1/hello HTTP/1.1\r\n".to_owned()),
        (404, "POST /v1/nothing HTTP/1.1\r\n".to_owned()),
        (405, "PUT /v1/hello HTTP/1.1\r\n".to_owned()),
        (406, "POST /v1/input HTTP/1.1\r\nAccept: text/html\r\n".to_owned()),
        (415, "POST /v1/input HTTP/1.1\r\nContent-Type: text/plain\r\n".to_owned()),
        (400, format!("POST /v1/input HTTP/1.1\r\n{json}Idempotency-Key: \r\n")),
        (400, "POST /v2/input HTTP/1.1\r\n".to_owned()),
    ] {
        for (framing, body) in [("Content-Length: 6", "secret"), ("Transfer-Encoding: chunked", "6\r\nsecret\r\n0\r\n\r\n")] {
            let mut stream = server.connect().await;
            stream.write_all(format!("{request}Host: a\r\n{framing}\r\n\r\n").as_bytes()).await.expect("it takes it");
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(format!("{body}{LAST_HELLO}").as_bytes()).await.expect("it takes it");
            let answers = read_to_end(&mut stream).await;
            assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{request}: {answers}");
            assert!(answers.ends_with("\"hello\""), "{request}: {answers}");
        }
    }
    server.stop().await;
}

// M5
#[tokio::test]
async fn the_end_of_a_connection_is_announced() {
    let server = start(ServerSettings::default()).await;
    let json = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for (status, request) in [
        // The rest never comes.
        (200, "GET /v1/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsec".to_owned()),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsec".to_owned()),
        (408, "POST /v1/impatient HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsec".to_owned()),
        // The rest is too long.
        (413, format!("{json}Content-Length: 300000\r\n\r\n")),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n".to_owned()),
        (404, format!("POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n{}\r\n", "x".repeat(0x10001))),
        // The rest cannot be read.
        (400, format!("{json}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\n0\r\n\r\n")),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".to_owned()),
        // The client waits for a word before it sends.
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n".to_owned()),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.expect("it takes it");
        let answer = read_to_end(&mut stream).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:.200}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains("\r\nconnection: close"), "{request:.200}: {answer}");
    }
    // A handler that reads the body has the client continue.
    let mut stream = server.connect().await;
    stream.write_all(format!("{json}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").as_bytes()).await.expect("it takes it");
    read_until(&mut stream, "HTTP/1.1 100 ").await;
    stream.write_all(format!("{{}}{LAST_HELLO}").as_bytes()).await.expect("it takes it");
    assert_eq!(read_to_end(&mut stream).await.matches("HTTP/1.1 200").count(), 2);
    server.stop().await;
}
