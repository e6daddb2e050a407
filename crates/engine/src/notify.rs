//! Notifications about new work: direct within a process, by PostgreSQL's LISTEN/NOTIFY between processes.
//!
//! Notifications are hints. Each receiver also polls every half second, so a lost one costs time and nothing else.

use db::{Db, params};
use parking_lot::{Mutex, RwLock};
use runtime::tasks::{self, Shutdown};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

const PG_CHANNEL: &str = "onrush";
/// PostgreSQL takes up to 8,000 bytes in one notification; the rest is left for the prefix.
const MAX_TEXT_BYTES: usize = 7_500;
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Wakes a reader of a stream that has new messages of these kinds. `None`: the kinds are unknown. Must return at once.
pub(crate) type WakeFn = Arc<dyn Fn(Option<&[&str]>) + Send + Sync>;
type NotificationHandler = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// Receivers of one service's notifications in this process.
#[derive(Default)]
struct Channel {
    /// Notified when committed messages of this service wait for their sequence numbers.
    unnumbered: Notify,
    wake_fns: RwLock<Vec<WakeFn>>,
    handler: OnceLock<NotificationHandler>,
    sender: OnceLock<Arc<NotifySender>>,
    /// The sequencer of this service runs here, so that other processes need no notification of written messages.
    sequenced_here: AtomicBool,
}

/// Queue of notifications to other processes on one database. Equal texts are sent once.
#[derive(Default)]
struct NotifySender {
    waiting: Mutex<BTreeSet<String>>,
    woken: Notify,
}

impl NotifySender {
    fn enqueue(&self, text: String) {
        self.waiting.lock().insert(text);
        self.woken.notify_one();
    }
    fn drain(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.waiting.lock())
    }
}

/// Notification channels of a process, one for each service.
#[derive(Clone, Default)]
pub struct Notifications(Arc<HashMap<&'static str, Channel>>);

impl Notifications {
    pub fn new(services: impl IntoIterator<Item = &'static str>) -> Notifications {
        Notifications(Arc::new(services.into_iter().map(|service| (service, Channel::default())).collect()))
    }

    /// Notifies the sequencer that committed messages of this service wait for their numbers.
    pub fn notify_written(&self, service: &str) {
        let Some(channel) = self.0.get(service) else { return };
        channel.unnumbered.notify_one();
        if !channel.sequenced_here.load(Ordering::Relaxed) {
            channel.send(format!("w:{service}"));
        }
    }

    /// Notifies the readers that the stream of this service has new messages of these kinds, separated by commas.
    pub fn notify_numbered(&self, service: &str, kinds: &str) {
        let Some(channel) = self.0.get(service) else { return };
        channel.wake_readers(Some(kinds));
        channel.send(format!("n:{service}:{kinds}"));
    }

    /// Notifies the other instances of a service. A text that is too long is replaced by the empty text, after which receivers assume
    /// that anything may have changed.
    pub fn notify(&self, service: &str, text: &str) {
        let Some(channel) = self.0.get(service) else { return };
        let text = if text.len() <= MAX_TEXT_BYTES { text } else { "" };
        channel.send(format!("t:{service}:{text}"));
    }

    pub(crate) fn subscribe(&self, service: &str, wake: WakeFn) {
        if let Some(channel) = self.0.get(service) {
            channel.wake_fns.write().push(wake);
        }
    }

    /// Sets the handler of notifications from other instances. It gets `None` when some may have been lost.
    pub fn set_notification_handler(&self, service: &str, handler: NotificationHandler) {
        if let Some(channel) = self.0.get(service) {
            let _ = channel.handler.set(handler);
        }
    }

    pub(crate) fn set_sequenced_here(&self, service: &str, is_here: bool) {
        if let Some(channel) = self.0.get(service) {
            channel.sequenced_here.store(is_here, Ordering::Relaxed);
        }
    }

    /// Waits until messages of this service may need numbers, or until `max_wait` has passed. Returns true when it was notified.
    pub(crate) async fn wait_for_written(&self, service: &str, max_wait: Duration) -> bool {
        match self.0.get(service) {
            Some(channel) => tokio::time::timeout(max_wait, channel.unnumbered.notified()).await.is_ok(),
            None => {
                tokio::time::sleep(max_wait).await;
                false
            }
        }
    }

    /// Starts sending and receiving notifications for these services, which share one database.
    pub fn connect(&self, db: &Db, services: &[&'static str], shutdown: &Shutdown) {
        let sender = Arc::<NotifySender>::default();
        for service in services {
            if let Some(channel) = self.0.get(service) {
                let _ = channel.sender.set(Arc::clone(&sender));
            }
        }
        let (sender_db, sender_shutdown) = (db.clone(), shutdown.clone());
        tasks::spawn_restarting("notify-sender", move || run_sender(sender_db.clone(), Arc::clone(&sender), sender_shutdown.clone()));
        let (this, db, services, shutdown) = (self.clone(), db.clone(), services.to_vec(), shutdown.clone());
        tasks::spawn_restarting("notify-listener", move || this.clone().listen(db.clone(), services.clone(), shutdown.clone()));
    }

    async fn listen(self, db: Db, services: Vec<&'static str>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = self.listen_until_disconnected(&db, &services) => {}
                () = shutdown.stopping() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_DELAY) => {}
                () = shutdown.stopping() => return,
            }
        }
    }

    async fn listen_until_disconnected(&self, db: &Db, services: &[&'static str]) {
        let mut listener = match db.notifications(PG_CHANNEL).await {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "LISTEN failed, retrying"),
        };
        // Notifications sent while this process did not listen are lost.
        for channel in services.iter().filter_map(|service| self.0.get(service)) {
            channel.assume_missed();
        }
        while let Some(text) = listener.next().await {
            self.receive(&text);
        }
    }

    fn receive(&self, text: &str) {
        let mut parts = text.splitn(3, ':');
        let (Some(kind), Some(service)) = (parts.next(), parts.next()) else { return };
        let Some(channel) = self.0.get(service) else { return };
        match (kind, parts.next()) {
            ("w", None) => channel.unnumbered.notify_one(),
            ("n", kinds) => channel.wake_readers(kinds),
            ("t", Some("")) => channel.assume_missed(),
            ("t", Some(text)) => channel.handle(Some(text)),
            _ => {}
        }
    }
}

impl Channel {
    fn wake_readers(&self, kinds: Option<&str>) {
        let kinds: Option<Vec<&str>> = kinds.map(|kinds| kinds.split(',').collect());
        for wake in self.wake_fns.read().iter() {
            wake(kinds.as_deref());
        }
    }
    fn send(&self, text: String) {
        if let Some(sender) = self.sender.get() {
            sender.enqueue(text);
        }
    }
    fn handle(&self, text: Option<&str>) {
        if let Some(handler) = self.handler.get() {
            handler(text);
        }
    }
    fn assume_missed(&self) {
        self.handle(None);
        self.wake_readers(None);
        self.unnumbered.notify_one();
    }
}

async fn run_sender(db: Db, sender: Arc<NotifySender>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = sender.woken.notified() => {}
            () = shutdown.stopping() => return,
        }
        let texts = sender.drain();
        let sent = async {
            let mut reader = db.reader().await?;
            // One statement for all texts, because a transaction for each would wake every listener each time.
            let sql = "select cast(pg_notify($1, $2) as text)";
            reader.query_many::<(String,), 2>(sql, texts.iter().map(|text| params![PG_CHANNEL, text])).await
        };
        if let Err(error) = sent.await {
            tracing::debug!(%error, "NOTIFY failed, other processes poll");
            // Notifications between instances are outdated after the delay. The others are few, and are sent again.
            for text in texts.into_iter().filter(|text| !text.starts_with("t:")) {
                sender.enqueue(text);
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}
