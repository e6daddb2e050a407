//! The client of a request, behind proxies or not.

use super::*;

// row 41
#[tokio::test]
async fn the_peer_comes_from_the_socket_and_not_from_headers() {
    let server = start(quick()).await;
    let forged =
        "GET /v1/peer HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(forged.as_bytes()).await;
    assert!(answer.contains("127.0.0.1:") && !answer.contains("203.0.113.9"), "{answer}");
    server.stop().await;
}

/// The proxy of these tests.

// H2, R1, row 41
#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let server = start(behind_proxy(ClientHeader::XForwardedFor, false)).await;
    let named = "X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\nX-Forwarded-For: 10.0.0.7\r\nForwarded: for=198.51.100.2\r\n";
    assert_eq!(server.peer(PROXY, b"", named).await, "203.0.113.9:0");
    assert!(server.peer(STRANGER, b"", named).await.starts_with("127.0.0.2:"));
    assert!(server.peer(PROXY, b"", "X-Forwarded-For: unknown\r\n").await.starts_with("127.0.0.1:"));
    assert_eq!(server.peer(PROXY, b"", "X-Forwarded-For: [2001:db8::9]:443\r\n").await, "[2001:db8::9]:443");
    server.stop().await;
    let server = start(behind_proxy(ClientHeader::Forwarded, false)).await;
    let named = "Forwarded: for=198.51.100.1, for=\"[2001:db8::9]:443\";proto=https\r\nX-Forwarded-For: 198.51.100.2\r\n";
    assert_eq!(server.peer(PROXY, b"", named).await, "[2001:db8::9]:443");
    server.stop().await;
}

// H2
#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let server = start(behind_proxy(ClientHeader::XForwardedFor, true)).await;
    let text = b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n";
    assert_eq!(server.peer(PROXY, text, "").await, "203.0.113.9:56324");
    // The header of a client behind it is a claim.
    assert_eq!(server.peer(PROXY, text, "X-Forwarded-For: 198.51.100.1\r\n").await, "203.0.113.9:56324");
    // A second trusted proxy behind the first.
    let chained = b"PROXY TCP4 10.0.0.7 127.0.0.1 56324 443\r\n";
    assert_eq!(server.peer(PROXY, chained, "X-Forwarded-For: 203.0.113.9\r\n").await, "203.0.113.9:0");
    assert_eq!(server.peer(PROXY, b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n", "").await, "[2001:db8::9]:1");
    assert!(server.peer(PROXY, b"PROXY UNKNOWN\r\n", "").await.starts_with("127.0.0.1:"));
    for (command, expected) in [(0x21, "203.0.113.9:56324"), (0x20, "127.0.0.1:")] {
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        binary.extend([command, 0x11, 0, 15, 203, 0, 113, 9, 127, 0, 0, 1, 0xdc, 4, 1, 187, 4, 0, 0]);
        assert!(server.peer(PROXY, &binary, "").await.starts_with(expected), "{expected}");
    }
    // Without a header, a trusted proxy is not served. Others are served as they are.
    for bad in ["", "PROXY TCP4 203.0.113.999 127.0.0.1 1 2\r\n", "PROXY TCP4 x\n", "proxy tcp4 1.2.3.4 1.2.3.4 1 2\r\n"] {
        let mut stream = server.connect_from(PROXY).await;
        stream.write_all(format!("{bad}{LAST_PEER}").as_bytes()).await.expect("it takes it");
        let closed = timeout(TIMEOUT, stream.read(&mut [0; 64])).await.expect("it is closed");
        assert!(matches!(closed, Ok(0) | Err(_)), "{bad}: {closed:?}");
    }
    assert!(server.peer(STRANGER, b"", "").await.starts_with("127.0.0.2:"));
    is_problem(&server.exchange_from(STRANGER, text).await, 400, "bad-request");
    // The header may come in pieces.
    let mut slow = server.connect_from(PROXY).await;
    for piece in [text.as_slice(), LAST_PEER.as_bytes()].concat().chunks(5) {
        slow.write_all(piece).await.expect("it takes it");
        tokio::task::yield_now().await;
    }
    assert!(read_to_end(&mut slow).await.ends_with("203.0.113.9:56324"));
    server.stop().await;
}

const LAST_PEER: &str = "GET /v1/peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
