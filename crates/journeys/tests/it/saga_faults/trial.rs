//! One story, with or without a trouble on its way.

use crate::mall::{Mall, Person, blob};
use kit::testing::TestResponse;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Past the deadline of a step.
const LATE: Duration = Duration::from_secs(31);

/// A message at one of its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub reader: &'static str,
    pub source: &'static str,
    pub kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Fail,
    Repeat,
    Late,
}

/// How many messages of a kind a stream has.
type Said = BTreeMap<(&'static str, String), i64>;

pub struct Trial<'a> {
    pub mall: &'a Mall,
    place: Option<Place>,
    trouble: Trouble,
    struck_before: u32,
    was_late: AtomicBool,
    said_before: Said,
    orders: Mutex<Vec<String>>,
}

impl<'a> Trial<'a> {
    /// Nothing happens yet: stories first prepare, then say [`Trial::begins`].
    pub async fn of(mall: &'a Mall, place: Option<Place>, trouble: Trouble) -> Trial<'a> {
        let struck_before = place.map_or(0, |place| mall.app.faults.struck(place.reader, place.kind));
        let said_before = said(mall).await;
        Trial { mall, place, trouble, struck_before, was_late: AtomicBool::new(false), said_before, orders: Mutex::default() }
    }

    /// The first message of the right kind from here on meets the trouble.
    pub async fn begins(&self) {
        self.mall.quiet().await;
        let Some(Place { reader, kind, .. }) = self.place else { return };
        match self.trouble {
            Trouble::Fail => self.mall.app.faults.fail(reader, kind, 1),
            // Every time: a repeat that its reader cannot stand must not be healed by a retry without it.
            Trouble::Repeat => self.mall.app.faults.repeat(reader, kind, u32::MAX),
            Trouble::Late => self.mall.app.faults.hold(reader, kind),
        }
    }

    /// The trouble was there, and is over.
    pub fn ends(&self, named: &str) {
        let Some(Place { reader, kind, .. }) = self.place else { return };
        let faults = &self.mall.app.faults;
        let struck = faults.struck(reader, kind) - self.struck_before;
        match self.trouble {
            Trouble::Late => assert!(self.was_late.load(Ordering::SeqCst), "{named}: it never happened"),
            Trouble::Fail => assert_eq!(struck, 1, "{named}"),
            Trouble::Repeat => {
                faults.repeat(reader, kind, 0);
                assert!(struck > 0, "{named}: it never happened");
            }
        }
    }

    /// Orders without waiting, and gives the order's id. With a trouble the answer may be anything but a technical failure.
    pub async fn place(&self, shopper: &Person, body: &Value) -> String {
        let placed = self.act(shopper, "/v1/orders", body).await;
        let id = placed.body["id"].as_str().or(placed.body["order_id"].as_str());
        let id = id.unwrap_or_else(|| panic!("no order in {placed:?}")).to_owned();
        self.orders.lock().expect("nobody panics with it").push(id.clone());
        id
    }

    /// Does something without waiting for the order to rest.
    pub async fn act(&self, shopper: &Person, path: &str, body: &Value) -> TestResponse {
        let answer = self.mall.post(shopper, path, body).send().await;
        assert!(answer.status < 500, "{answer:?}");
        answer
    }

    /// Waits until everything rests. A message that is held is let go when its deadline is over.
    pub async fn rest(&self) {
        for _ in 0..3_000 {
            if self.trouble == Trouble::Late && self.keeps_waiting().await {
                self.let_go().await;
            }
            if self.mall.is_quiet().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?} {:?}: it does not come to rest: {:#?}", self.place, self.trouble, self.mall.audit().await);
    }

    /// True when the message is written, and everything before it is read.
    async fn keeps_waiting(&self) -> bool {
        let Some(place) = self.place.filter(|_| !self.was_late.load(Ordering::SeqCst)) else { return false };
        self.is_waiting(place).await > 0
    }

    /// How many messages of this kind their reader has before it.
    pub async fn is_waiting(&self, Place { reader, source, kind }: Place) -> i64 {
        let position =
            format!("select p.seq from {reader}_positions p where p.source='{source}' and p.epoch=o.epoch and p.partition=o.partition");
        let sql = format!("select count(*) from {source}_outbox o where o.kind='{kind}' and o.seq>coalesce(({position}), 0)");
        self.mall.app.sql_i64(&sql).await
    }

    async fn let_go(&self) {
        let Some(Place { reader, kind, .. }) = self.place else { return };
        self.was_late.store(true, Ordering::SeqCst);
        self.mall.app.clock.advance(LATE);
        self.mall.app.job("orders.due").await;
        self.mall.app.faults.release(reader, kind);
        self.mall.wake().await;
    }

    /// How the story's orders stand, in the order they were placed.
    pub async fn states(&self) -> Vec<String> {
        let ids = self.orders.lock().expect("nobody panics with it").clone();
        let mut states = Vec::new();
        for id in ids {
            let found: Vec<(String,)> = self.mall.app.rows(&format!("select state from orders_orders where id={}", blob(&id))).await;
            states.extend(found.into_iter().map(|(state,)| state));
        }
        states
    }

    /// Which of these places got a message since the beginning.
    pub async fn reached(&self, places: &[Place]) -> Vec<Place> {
        let said = said(self.mall).await;
        let more = |place: &&Place| {
            let what = (place.source, place.kind.to_owned());
            said.get(&what) > self.said_before.get(&what)
        };
        places.iter().filter(more).copied().collect()
    }
}

async fn said(mall: &Mall) -> Said {
    let mut said = Said::new();
    for source in onrush::audit::SERVICES {
        let counts: Vec<(String, i64)> = mall.app.rows(&format!("select kind, count(*) from {source}_outbox group by kind")).await;
        said.extend(counts.into_iter().map(|(kind, count)| ((*source, kind), count)));
    }
    said
}
