//! Connections while the server stops.

use super::*;

// I7
#[tokio::test]
async fn a_stop_finishes_running_requests_and_accepts_no_new_ones() {
    let mut server = start(ServerSettings::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(HELLO.as_bytes()).await.expect("it takes it");
    read_until(&mut idle, "\"hello\"").await;
    let mut running = server.connect().await;
    running.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.trigger.stop();
    assert_eq!(read_to_end(&mut idle).await, "", "idle connections are closed at once");
    let late = async {
        loop {
            if TcpStream::connect(server.address).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, late).await.expect("no more connections are taken");
    server.gate.send_replace(true);
    let answer = read_to_end(&mut running).await;
    assert!(answer.contains("\"through\"") && answer.contains("connection: close"), "{answer}");
    timeout(TIMEOUT, server.task).await.expect("it stops").expect("no panic");
}

// I7
#[tokio::test]
async fn a_stop_cuts_off_requests_after_the_drain_time() {
    let mut server = start(ServerSettings { drain_time: Duration::from_millis(100), ..ServerSettings::default() }).await;
    let mut running = server.connect().await;
    running.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.trigger.stop();
    timeout(TIMEOUT, server.task).await.expect("it stops").expect("no panic");
    let mut space = [0; 64];
    let rest = timeout(TIMEOUT, running.read(&mut space)).await.expect("it is cut off");
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
}
