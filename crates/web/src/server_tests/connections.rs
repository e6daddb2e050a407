//! Connections: idle, busy, and more than the server has room for.

use super::*;

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let server = start(quick()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    let mut idle = server.connect().await;
    idle.write_all(HELLO.as_bytes()).await.expect("it takes it");
    // The idle connection closes after the idle time. The busy one has waited just as long and stays open.
    assert!(read_to_end(&mut idle).await.starts_with("HTTP/1.1 200"));
    server.gate.send_replace(true);
    read_until(&mut busy, "\"through\"").await;
    busy.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
    assert!(read_to_end(&mut busy).await.contains("\"hello\""));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = start(ServerSettings { stall_time: Duration::from_millis(300), ..quick() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/large HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    let Server { trigger, task, .. } = server;
    // The response can never be sent. Without the stall timeout the stop would wait for the whole drain time.
    read_until(&mut stream, "HTTP/1.1 200").await;
    trigger.stop();
    timeout(Duration::from_secs(4), task).await.expect("the stalled connection is gone before the drain time").expect("no panic");
}

/// Opens a connection and has one request answered on it.
async fn idle_connection(server: &Server, from: Ipv4Addr) -> TcpStream {
    let mut stream = server.connect_from(from).await;
    stream.write_all(HELLO.as_bytes()).await.expect("it takes it");
    read_until(&mut stream, "\"hello\"").await;
    stream
}

/// Opens a connection with a request that waits at the gate.
async fn busy_connection(server: &mut Server, from: Ipv4Addr) -> TcpStream {
    let before = *server.entered.borrow();
    let mut stream = server.connect_from(from).await;
    stream.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count > before).await.expect("the handler lives");
    stream
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_busy_ones() {
    let mut server = start(ServerSettings { max_connections: 1, ..quick() }).await;
    let first = busy_connection(&mut server, PROXY).await;
    let mut second = server.connect().await;
    second.write_all(LAST_HELLO.as_bytes()).await.expect("the kernel takes it");
    let mut space = [0; 64];
    let early = timeout(Duration::from_millis(100), second.read(&mut space)).await;
    assert!(early.is_err(), "the second waits for the first to end");
    server.gate.send_replace(true);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 200"));
    drop(first);
    server.stop().await;
}

// M1
#[tokio::test]
async fn a_full_server_closes_the_longest_idle_connection() {
    let mut server = start(ServerSettings { max_connections: 3, ..ServerSettings::default() }).await;
    let mut silent = server.connect_from(STRANGER).await;
    let mut idle = idle_connection(&server, PROXY).await;
    let mut busy = busy_connection(&mut server, PROXY).await;
    let mut fillers = Vec::new();
    for longest in [&mut silent, &mut idle] {
        let mut new = server.connect_from(STRANGER).await;
        new.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
        assert!(read_to_end(&mut new).await.starts_with("HTTP/1.1 200"));
        assert_eq!(read_to_end(longest).await, "", "it made room");
        // The new one has ended. Another idle one takes its place.
        fillers.push(idle_connection(&server, STRANGER).await);
    }
    server.gate.send_replace(true);
    read_until(&mut busy, "\"through\"").await;
    server.stop().await;
}

// M1
#[tokio::test]
async fn an_address_cannot_take_all_connections() {
    let mut server = start(ServerSettings { max_per_address: 2, ..ServerSettings::default() }).await;
    let mut first = idle_connection(&server, STRANGER).await;
    let mut second = busy_connection(&mut server, STRANGER).await;
    // Its own idle connection makes room.
    let third = busy_connection(&mut server, STRANGER).await;
    assert_eq!(read_to_end(&mut first).await, "");
    // All of them are busy.
    let mut fourth = server.connect_from(STRANGER).await;
    let mut space = [0; 64];
    let closed = timeout(TIMEOUT, fourth.read(&mut space)).await.expect("it is closed");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(idle_connection(&server, PROXY).await);
    server.gate.send_replace(true);
    read_until(&mut second, "\"through\"").await;
    drop(third);
    server.stop().await;

    let server = start(ServerSettings { max_per_address: 2, ..behind_proxy(ClientHeader::XForwardedFor, false) }).await;
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(idle_connection(&server, PROXY).await);
    }
    for stream in &mut connections {
        stream.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
        assert!(read_to_end(stream).await.starts_with("HTTP/1.1 200"), "a trusted proxy has no share");
    }
    server.stop().await;
}

// M1
#[test]
fn connections_fit_the_descriptors_of_the_process() {
    let limits = |descriptors| {
        let settings = ServerSettings::for_descriptors(descriptors);
        (settings.max_connections, settings.max_per_address)
    };
    assert_eq!(limits(1_024), (768, 96));
    assert_eq!(limits(u64::MAX), (8_192, 1_024));
    assert_eq!(limits(64), (64, 8));
    assert!(crate::raise_descriptor_limit().expect("the limit can be read") >= 256);
}
