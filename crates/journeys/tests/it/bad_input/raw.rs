//! Sends raw bytes over a socket, for requests that no client library would send.

use crate::mall::Mall;
use kit::{
    http::{ServerSettings, serve},
    tasks::{self, ShutdownTrigger},
};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

/// The mall's router behind its own listener.
pub struct Server {
    pub address: SocketAddr,
    trigger: ShutdownTrigger,
}

/// The answer until the server closed the connection or was silent for two seconds.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    pub head: String,
    pub body: Value,
    pub closed: bool,
}

impl RawResponse {
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or("")
    }
}

impl Server {
    pub async fn start(mall: &Mall) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (trigger, shutdown) = tasks::shutdown();
        let router = mall.app.router.clone();
        tasks::spawn("server under test", async move {
            serve(listener, router, ServerSettings::default(), shutdown).await.expect("the server stops on shutdown");
        });
        Server { address, trigger }
    }

    pub fn stop(self) {
        self.trigger.stop();
    }

    pub async fn send(&self, bytes: &[u8]) -> RawResponse {
        self.send_from(Ipv4Addr::LOCALHOST, bytes).await
    }

    /// From another loopback address.
    pub async fn send_from(&self, from: Ipv4Addr, bytes: &[u8]) -> RawResponse {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        let mut stream = socket.connect(self.address).await.expect("the server accepts");
        let (mut reads, mut writes) = stream.split();
        let mut received = Vec::new();
        // The server may answer and close before it has read the whole request.
        let write = async {
            let _ = writes.write_all(bytes).await;
        };
        let read = async {
            let mut piece = [0; 4096];
            loop {
                match tokio::time::timeout(Duration::from_secs(2), reads.read(&mut piece)).await {
                    Ok(Ok(0) | Err(_)) => return true,
                    Ok(Ok(length)) => received.extend_from_slice(&piece[..length]),
                    Err(_) => return false,
                }
            }
        };
        let ((), closed) = tokio::join!(write, read);
        let text = String::from_utf8_lossy(&received).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        RawResponse { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap_or(Value::Null), closed }
    }
}
