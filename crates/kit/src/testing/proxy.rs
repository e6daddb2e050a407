//! A man in the middle between the product and PostgreSQL, who cuts the connection at the worst moment.

use crate::tasks;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What is done when a commit comes by; once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    /// The server never hears of it; both connections are closed.
    BeforeCommit,
    /// The server never hears of it, nor of the end of its client.
    SilentlyBeforeCommit,
    /// The server does it, its answer is lost.
    AfterCommit,
    /// The same, and nobody gets through to the server from then on.
    AfterCommitForGood,
}

#[derive(Clone)]
pub struct Proxy {
    state: Arc<ProxyState>,
    port: u16,
}

struct ProxyState {
    planned: Mutex<Cut>,
    is_shut: AtomicBool,
    cuts: AtomicU64,
}

impl Proxy {
    /// In front of a server on this address.
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(ProxyState { planned: Mutex::new(Cut::Nothing), is_shut: AtomicBool::new(false), cuts: AtomicU64::new(0) });
        let proxy = Self { state: Arc::clone(&state), port };
        tasks::spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                if state.is_shut.load(Ordering::SeqCst) {
                    continue;
                }
                let (state, server) = (Arc::clone(&state), server.clone());
                tasks::spawn("proxied", async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        let _ = state.forward(client, server).await;
                    }
                });
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn cut_next(&self, cut: Cut) {
        *self.state.planned.lock().unwrap_or_else(PoisonError::into_inner) = cut;
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl ProxyState {
    /// Carries bytes both ways until one side ends, or is cut off.
    async fn forward(&self, mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
        let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let Ok(size @ 1..) = read else { return Ok(()) };
                    let from_client = &from_client[..size];
                    let cut = if from_client.windows(7).any(|text| text == b"commit\0") { self.take_planned_cut() } else { Cut::Nothing };
                    match cut {
                        Cut::Nothing => server.write_all(from_client).await?,
                        Cut::BeforeCommit => return Ok(()),
                        Cut::SilentlyBeforeCommit => {
                            drop(client);
                            let _ = server.read(&mut from_server).await;
                            return Ok(());
                        }
                        Cut::AfterCommit | Cut::AfterCommitForGood => {
                            server.write_all(from_client).await?;
                            // Its answer: it is done.
                            let _ = server.read(&mut from_server).await;
                            return Ok(());
                        }
                    }
                }
                read = server.read(&mut from_server) => {
                    let Ok(size @ 1..) = read else { return Ok(()) };
                    client.write_all(&from_server[..size]).await?;
                }
            }
        }
    }

    fn take_planned_cut(&self) -> Cut {
        let cut = std::mem::replace(&mut *self.planned.lock().unwrap_or_else(PoisonError::into_inner), Cut::Nothing);
        if cut != Cut::Nothing {
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        if cut == Cut::AfterCommitForGood {
            self.is_shut.store(true, Ordering::SeqCst);
        }
        cut
    }
}
