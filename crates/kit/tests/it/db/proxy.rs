//! A man in the middle between the product and the server, who cuts the connection at the worst moment.

use std::sync::{Arc, Mutex};
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
    cut: Arc<Mutex<Cut>>,
    shut: Arc<Mutex<bool>>,
    port: u16,
}

impl Proxy {
    /// In front of a server on this address.
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { cut: Arc::new(Mutex::new(Cut::Nothing)), shut: Arc::default(), port };
        let shared = proxy.clone();
        kit::tasks::spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                if *shared.shut.lock().unwrap() {
                    continue;
                }
                let (shared, server) = (shared.clone(), server.clone());
                kit::tasks::spawn("proxied", async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    shared.between(client, server).await;
                });
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn cut_next(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    async fn between(&self, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(size @ 1..) = read else { return };
                    let asked = &asked[..size];
                    let cut = if asked.windows(7).any(|text| text == b"commit\0") { self.take() } else { Cut::Nothing };
                    match cut {
                        Cut::Nothing => server.write_all(asked).await.unwrap(),
                        Cut::BeforeCommit => return,
                        Cut::SilentlyBeforeCommit => {
                            drop(client);
                            let _ = server.read(&mut said).await;
                            return;
                        }
                        Cut::AfterCommit | Cut::AfterCommitForGood => {
                            server.write_all(asked).await.unwrap();
                            // Its answer: it is done.
                            let _ = server.read(&mut said).await;
                            return;
                        }
                    }
                }
                read = server.read(&mut said) => {
                    let Ok(size @ 1..) = read else { return };
                    if client.write_all(&said[..size]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&self) -> Cut {
        let cut = std::mem::replace(&mut *self.cut.lock().unwrap(), Cut::Nothing);
        if cut == Cut::AfterCommitForGood {
            *self.shut.lock().unwrap() = true;
        }
        cut
    }
}
