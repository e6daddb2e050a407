//! One run of a case, with or without a fault.

use crate::mall::{Mall, Person, sql_uuid};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use testkit::TestResponse;

/// Longer than the deadline of a step.
const PAST_DEADLINE: Duration = Duration::from_secs(31);

/// A message at one of its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderMessage {
    pub reader: &'static str,
    pub source: &'static str,
    pub kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFault {
    Fail,
    Repeat,
    Late,
}

/// Number of messages by stream and kind.
type SentCounts = BTreeMap<(&'static str, String), i64>;

pub struct CaseRun<'a> {
    pub mall: &'a Mall,
    message: Option<ReaderMessage>,
    fault: DeliveryFault,
    hits_before: u32,
    was_released: AtomicBool,
    sent_before: SentCounts,
    orders: Mutex<Vec<String>>,
}

impl<'a> CaseRun<'a> {
    /// No fault yet. Cases prepare first, then call [`CaseRun::arm_fault`].
    pub async fn of(mall: &'a Mall, message: Option<ReaderMessage>, fault: DeliveryFault) -> CaseRun<'a> {
        let hits_before = message.map_or(0, |message| mall.app.faults.times_applied(message.reader, message.kind));
        let sent_before = sent(mall).await;
        CaseRun { mall, message, fault, hits_before, was_released: AtomicBool::new(false), sent_before, orders: Mutex::default() }
    }

    /// From here on the fault hits the first message of its kind.
    pub async fn arm_fault(&self) {
        self.mall.wait_until_quiet().await;
        let Some(ReaderMessage { reader, kind, .. }) = self.message else { return };
        match self.fault {
            DeliveryFault::Fail => self.mall.app.faults.fail(reader, kind, 1),
            // Repeats every delivery, because a retry without the repeat could hide a failure.
            DeliveryFault::Repeat => self.mall.app.faults.repeat(reader, kind, u32::MAX),
            DeliveryFault::Late => self.mall.app.faults.hold(reader, kind),
        }
    }

    /// Asserts that the fault happened, and ends it.
    pub fn assert_fault_hit(&self, context: &str) {
        let Some(ReaderMessage { reader, kind, .. }) = self.message else { return };
        let faults = &self.mall.app.faults;
        let hits = faults.times_applied(reader, kind) - self.hits_before;
        match self.fault {
            DeliveryFault::Late => assert!(self.was_released.load(Ordering::SeqCst), "{context}: the fault never happened"),
            DeliveryFault::Fail => assert_eq!(hits, 1, "{context}"),
            DeliveryFault::Repeat => {
                faults.repeat(reader, kind, 0);
                assert!(hits > 0, "{context}: the fault never happened");
            }
        }
    }

    /// Places an order without waiting for it. Returns its id. With a fault any answer below 500 is fine.
    pub async fn place(&self, shopper: &Person, body: &Value) -> String {
        let placed = self.act(shopper, "/v1/orders", body).await;
        let id = placed.body["id"].as_str().or(placed.body["order_id"].as_str());
        let id = id.unwrap_or_else(|| panic!("no order in {placed:?}")).to_owned();
        self.orders.lock().expect("no panic while locked").push(id.clone());
        id
    }

    /// Sends a request without waiting for the order to rest.
    pub async fn act(&self, shopper: &Person, path: &str, body: &Value) -> TestResponse {
        let answer = self.mall.post(shopper, path, body).send().await;
        assert!(answer.status < 500, "{answer:?}");
        answer
    }

    /// Waits until the mall is quiet. Releases a held message after its deadline.
    pub async fn wait_until_quiet(&self) {
        for _ in 0..3_000 {
            if self.fault == DeliveryFault::Late && self.is_held().await {
                self.release_late().await;
            }
            if self.mall.is_quiet().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?} {:?}: the mall does not rest: {:#?}", self.message, self.fault, self.mall.audit().await);
    }

    /// True: the held message is written and not yet released.
    async fn is_held(&self) -> bool {
        let Some(message) = self.message.filter(|_| !self.was_released.load(Ordering::SeqCst)) else { return false };
        self.count_unread(message).await > 0
    }

    /// Unread messages of this kind at their reader.
    pub async fn count_unread(&self, ReaderMessage { reader, source, kind }: ReaderMessage) -> i64 {
        let position =
            format!("select p.seq from {reader}_positions p where p.source='{source}' and p.epoch=o.epoch and p.partition=o.partition");
        let sql = format!("select count(*) from {source}_outbox o where o.kind='{kind}' and o.seq>coalesce(({position}), 0)");
        self.mall.app.sql_i64(&sql).await
    }

    async fn release_late(&self) {
        let Some(ReaderMessage { reader, kind, .. }) = self.message else { return };
        self.was_released.store(true, Ordering::SeqCst);
        self.mall.app.clock.advance(PAST_DEADLINE);
        self.mall.app.job("orders.due").await;
        self.mall.app.faults.release(reader, kind);
        self.mall.wake().await;
    }

    /// States of the case's orders, in the order of placement.
    pub async fn states(&self) -> Vec<String> {
        let ids = self.orders.lock().expect("no panic while locked").clone();
        let mut states = Vec::new();
        for id in ids {
            let found: Vec<(String,)> = self.mall.app.rows(&format!("select state from orders_orders where id={}", sql_uuid(&id))).await;
            states.extend(found.into_iter().map(|(state,)| state));
        }
        states
    }

    /// The messages among these that were sent since the start.
    pub async fn delivered(&self, reader_messages: &[ReaderMessage]) -> Vec<ReaderMessage> {
        let sent = sent(self.mall).await;
        let more = |message: &&ReaderMessage| {
            let sent_kind = (message.source, message.kind.to_owned());
            sent.get(&sent_kind) > self.sent_before.get(&sent_kind)
        };
        reader_messages.iter().filter(more).copied().collect()
    }
}

async fn sent(mall: &Mall) -> SentCounts {
    let mut sent = SentCounts::new();
    for source in contracts::SERVICES {
        let counts: Vec<(String, i64)> = mall.app.rows(&format!("select kind, count(*) from {source}_outbox group by kind")).await;
        sent.extend(counts.into_iter().map(|(kind, count)| ((*source, kind), count)));
    }
    sent
}
