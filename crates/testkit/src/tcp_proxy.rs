//! A TCP proxy between the product and a server that can cut connections or delay answers.

use kit::{ports::Stopwatch, tasks};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Normal,
    Disconnected,
    /// Delay of each answer.
    Delayed(Duration),
}

pub struct TcpProxy {
    state: Arc<watch::Sender<LinkState>>,
    port: u16,
}

impl TcpProxy {
    /// A proxy to the server at this address, such as `127.0.0.1:6379`.
    pub async fn to(server: String) -> TcpProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(watch::Sender::new(LinkState::Normal));
        let states = Arc::clone(&state);
        tasks::spawn("wire", async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, server) = (states.subscribe(), server.clone());
                if *state.borrow() != LinkState::Disconnected {
                    tasks::spawn("wire.connection", async move {
                        if let Ok(server) = TcpStream::connect(server).await {
                            forward(client, server, state).await;
                        }
                    });
                }
            }
        });
        TcpProxy { state, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and each new one at once.
    pub fn cut(&self) {
        self.state.send_replace(LinkState::Disconnected);
    }

    /// Delays answers by this time from now on. Requests reach the server at once.
    pub fn delay_answers(&self, delay: Duration) {
        self.state.send_replace(LinkState::Delayed(delay));
    }

    pub fn restore(&self) {
        self.state.send_replace(LinkState::Normal);
    }
}

/// Forwards bytes both ways until one side ends or the proxy cuts the connection.
async fn forward(client: TcpStream, server: TcpStream, mut state: watch::Receiver<LinkState>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_halves, server_halves) = (client.into_split(), server.into_split());
    let (to_server, to_client) = (state.clone(), state.clone());
    let at_once = |_: LinkState| Duration::ZERO;
    let delayed = |state: LinkState| if let LinkState::Delayed(delay) = state { delay } else { Duration::ZERO };
    tokio::select! {
        () = pump(client_halves.0, server_halves.1, to_server, at_once) => {}
        () = pump(server_halves.0, client_halves.1, to_client, delayed) => {}
        _ = state.wait_for(|state| *state == LinkState::Disconnected) => {}
    }
}

/// Forwards bytes. Reading goes on while earlier bytes are delayed.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: watch::Receiver<LinkState>,
    delay: impl Fn(LinkState) -> Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Stopwatch, Duration, Vec<u8>)>();
    let reading = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(size @ 1..) = from.read(&mut bytes).await {
            let delay = delay(*state.borrow());
            let _ = sender.send((Stopwatch::start(), delay, bytes[..size].to_vec()));
        }
    };
    let writing = async {
        while let Some((since, delay, bytes)) = receiver.recv().await {
            let left = delay.saturating_sub(since.elapsed());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
