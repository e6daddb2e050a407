//! A proxy between the product and PostgreSQL that cuts the connection at the commit.

use kit::tasks;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The action at the next commit. It happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    /// The server does not receive the commit. Both connections are closed.
    BeforeCommit,
    /// The server receives neither the commit nor the end of its client.
    SilentlyBeforeCommit,
    /// The server commits, and the answer is lost.
    AfterCommit,
    /// The server commits, the answer is lost, and from then on the proxy accepts no connection.
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
    /// A proxy in front of the server at this address.
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
        *self.state.planned.lock() = cut;
    }

    /// The number of connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl ProxyState {
    /// Forwards bytes both ways until one side ends or a cut happens.
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
                            // The answer proves that the server has committed.
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
        let cut = std::mem::replace(&mut *self.planned.lock(), Cut::Nothing);
        if cut != Cut::Nothing {
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        if cut == Cut::AfterCommitForGood {
            self.is_shut.store(true, Ordering::SeqCst);
        }
        cut
    }
}
