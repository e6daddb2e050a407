//! Who is told when something waits: within a process at once, between processes by the database's notifications.
//!
//! Only hints travel here. Whoever is not told looks by itself every half second; nothing is lost, it is only later.

use crate::{
    db::{Db, params},
    tasks::{self, Shutdown},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

const CHANNEL: &str = "onrush";
/// PostgreSQL takes up to 8,000 bytes in one notification.
const LONGEST: usize = 7_500;
const PAUSE: Duration = Duration::from_millis(500);

/// Called when a stream went on by messages of these kinds, or may have by any: wakes a reader of it. Must return at once.
pub(crate) type Ear = Arc<dyn Fn(Option<&[&str]>) + Send + Sync>;
type OnNotice = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// One service's lines.
#[derive(Default)]
struct Line {
    /// Its messages wait to be numbered.
    written: Notify,
    ears: RwLock<Vec<Ear>>,
    on_notice: OnceLock<OnNotice>,
    herald: OnceLock<Arc<Herald>>,
    /// The sequencer of this service runs here, and no other process need be told of what is written.
    sequenced_here: AtomicBool,
}

/// Takes what is to be said to other processes of one database, and says each thing once however often it was asked to.
#[derive(Default)]
struct Herald {
    waiting: Mutex<BTreeSet<String>>,
    called: Notify,
}

impl Herald {
    fn say(&self, text: String) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
        self.called.notify_one();
    }
    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The lines of a process.
#[derive(Clone, Default)]
pub struct Wires(Arc<HashMap<&'static str, Line>>);

impl Wires {
    pub fn new(services: impl IntoIterator<Item = &'static str>) -> Wires {
        Wires(Arc::new(services.into_iter().map(|service| (service, Line::default())).collect()))
    }

    /// Messages of this service are committed and wait for their numbers.
    pub fn written(&self, service: &str) {
        let Some(line) = self.0.get(service) else { return };
        line.written.notify_one();
        if !line.sequenced_here.load(Ordering::Relaxed) {
            line.tell(format!("w:{service}"));
        }
    }

    /// The stream of this service has new messages of these kinds, between commas.
    pub fn numbered(&self, service: &str, kinds: &str) {
        let Some(line) = self.0.get(service) else { return };
        line.ring(Some(kinds));
        line.tell(format!("n:{service}:{kinds}"));
    }

    /// Tells the other instances of a service something small. A text that does not fit is replaced by "anything may have changed".
    pub fn notice(&self, service: &str, text: &str) {
        let Some(line) = self.0.get(service) else { return };
        let text = if text.len() <= LONGEST { text } else { "" };
        line.tell(format!("t:{service}:{text}"));
    }

    pub(crate) fn listen(&self, service: &str, ear: Ear) {
        if let Some(line) = self.0.get(service) {
            line.ears.write().unwrap_or_else(PoisonError::into_inner).push(ear);
        }
    }

    /// What to do with notices: `None` when some may have been missed.
    pub(crate) fn on_notice(&self, service: &str, act: OnNotice) {
        if let Some(line) = self.0.get(service) {
            let _ = line.on_notice.set(act);
        }
    }

    pub(crate) fn sequenced_here(&self, service: &str, here: bool) {
        if let Some(line) = self.0.get(service) {
            line.sequenced_here.store(here, Ordering::Relaxed);
        }
    }

    /// Returns when messages of this service may wait for their numbers, or after a moment. Whether it was told so.
    pub(crate) async fn until_written(&self, service: &str, at_most: Duration) -> bool {
        match self.0.get(service) {
            Some(line) => tokio::time::timeout(at_most, line.written.notified()).await.is_ok(),
            None => {
                tokio::time::sleep(at_most).await;
                false
            }
        }
    }

    /// Connects these services, which share one database, with the other processes on it.
    pub(crate) fn connect(&self, db: &Db, services: &[&'static str], shutdown: &Shutdown) {
        let herald = Arc::<Herald>::default();
        for service in services {
            if let Some(line) = self.0.get(service) {
                let _ = line.herald.set(Arc::clone(&herald));
            }
        }
        tasks::spawn("herald", call_out(db.clone(), herald, shutdown.clone()));
        tasks::spawn("listener", self.clone().hear(db.clone(), services.to_vec(), shutdown.clone()));
    }

    async fn hear(self, db: Db, services: Vec<&'static str>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = self.hear_until_lost(&db, &services) => {}
                () = shutdown.stopping() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.stopping() => return,
            }
        }
    }

    async fn hear_until_lost(&self, db: &Db, services: &[&'static str]) {
        let mut listener = match db.notifications(CHANNEL).await {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "cannot listen to other processes"),
        };
        // What was said while nobody listened is not known.
        for line in services.iter().filter_map(|service| self.0.get(service)) {
            line.missed();
        }
        while let Some(text) = listener.next().await {
            self.heard(&text);
        }
    }

    fn heard(&self, text: &str) {
        let mut parts = text.splitn(3, ':');
        let (Some(kind), Some(service)) = (parts.next(), parts.next()) else { return };
        let Some(line) = self.0.get(service) else { return };
        match (kind, parts.next()) {
            ("w", None) => line.written.notify_one(),
            ("n", kinds) => line.ring(kinds),
            ("t", Some("")) => line.missed(),
            ("t", Some(text)) => line.act(Some(text)),
            _ => {}
        }
    }
}

impl Line {
    fn ring(&self, kinds: Option<&str>) {
        let kinds: Option<Vec<&str>> = kinds.map(|kinds| kinds.split(',').collect());
        for ear in self.ears.read().unwrap_or_else(PoisonError::into_inner).iter() {
            ear(kinds.as_deref());
        }
    }
    fn tell(&self, text: String) {
        if let Some(herald) = self.herald.get() {
            herald.say(text);
        }
    }
    fn act(&self, text: Option<&str>) {
        if let Some(act) = self.on_notice.get() {
            act(text);
        }
    }
    fn missed(&self) {
        self.act(None);
        self.ring(None);
        self.written.notify_one();
    }
}

async fn call_out(db: Db, herald: Arc<Herald>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = herald.called.notified() => {}
            () = shutdown.stopping() => return,
        }
        let texts = herald.take();
        let said = async {
            let mut reader = db.reader().await?;
            // A transaction for each would wake every listener each time.
            let said = "select cast(pg_notify($1, $2) as text)";
            reader.query_many::<(String,), 2>(said, texts.iter().map(|text| params![CHANNEL, text])).await
        };
        if let Err(error) = said.await {
            tracing::debug!(%error, "cannot tell other processes; they look by themselves");
            // Notices are old news by then; the rest is a handful of names.
            for text in texts.into_iter().filter(|text| !text.starts_with("t:")) {
                herald.say(text);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
