//! Notifications: a connection that only listens.

use super::{CONNECT_TIMEOUT, error};
use crate::DbError;
use runtime::{tasks, telemetry::error_chain};
use std::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

/// Payloads buffered for a busy listener. A listener that falls further behind is disconnected, and reloads after it connects again.
const MAX_BACKLOG: usize = 1_024;

/// Receives notifications on one channel, from its creation until the connection is lost.
#[derive(Debug)]
pub struct Listener {
    payloads: mpsc::Receiver<String>,
    _client: Client,
}

impl Listener {
    /// The next payload. `None`: the connection is lost, or the buffer overflowed, so notifications are missing. The caller then creates
    /// a new listener, and afterwards checks for changes made meanwhile.
    pub async fn next(&mut self) -> Option<String> {
        self.payloads.recv().await
    }
}

/// Must run inside the runtime.
pub async fn listen(config: Config, channel: String) -> Result<Listener, DbError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await;
    let (client, mut connection) = match connecting {
        Ok(connected) => connected.map_err(|error| error::of_connecting(&error))?,
        Err(_) => return Err(DbError::Closed("the server does not answer".into())),
    };
    let (sender, payloads) = mpsc::channel(MAX_BACKLOG);
    tasks::spawn("postgres listener", async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    if sender.try_send(notification.payload().to_owned()).is_err() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "listening connection lost");
                    break;
                }
            }
        }
    });
    let quoted = channel.replace('"', "\"\"");
    client.batch_execute(&format!("listen \"{quoted}\"")).await.map_err(|error| error::of(&error))?;
    Ok(Listener { payloads, _client: client })
}
