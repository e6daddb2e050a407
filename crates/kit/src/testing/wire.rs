//! A wire between the product and a server, that can be cut or made long for whoever is connected over it.

use crate::{ports::Stopwatch, tasks};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    /// Answers take so long.
    Long(Duration),
}

pub struct Wire {
    state: Arc<watch::Sender<State>>,
    port: u16,
}

impl Wire {
    /// To a server on this address, such as `127.0.0.1:6379`.
    pub async fn to(server: String) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(watch::Sender::new(State::Whole));
        let states = Arc::clone(&state);
        tasks::spawn("wire", async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, server) = (states.subscribe(), server.clone());
                if *state.borrow() != State::Cut {
                    tasks::spawn("wire.connection", async move {
                        if let Ok(server) = TcpStream::connect(server).await {
                            carry(client, server, state).await;
                        }
                    });
                }
            }
        });
        Wire { state, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and the next ones at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// From now on the server hears at once what it is asked, and its answers are on their way for so long.
    pub fn lengthen(&self, delay: Duration) {
        self.state.send_replace(State::Long(delay));
    }

    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

/// Carries bytes both ways until one side ends or the wire is cut.
async fn carry(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (asked, answers) = (client.into_split(), server.into_split());
    let (there, back) = (state.clone(), state.clone());
    let now = |_: State| Duration::ZERO;
    let late = |state: State| if let State::Long(delay) = state { delay } else { Duration::ZERO };
    tokio::select! {
        () = pump(asked.0, answers.1, there, now) => {}
        () = pump(answers.0, asked.1, back, late) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

/// What is read while something is on its way does not wait for that to arrive.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: watch::Receiver<State>,
    delay: impl Fn(State) -> Duration,
) {
    let (under_way, mut arriving) = mpsc::unbounded_channel::<(Stopwatch, Duration, Vec<u8>)>();
    let reading = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(size @ 1..) = from.read(&mut bytes).await {
            let delay = delay(*state.borrow());
            let _ = under_way.send((Stopwatch::start(), delay, bytes[..size].to_vec()));
        }
    };
    let writing = async {
        while let Some((since, delay, bytes)) = arriving.recv().await {
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
