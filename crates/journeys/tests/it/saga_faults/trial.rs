//! One story, with or without a trouble on its way.

use crate::stage::{Shopper, Stage, blob};
use kit::{ports::new_id, testing::TestResponse};
use serde_json::Value;
use std::{
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

pub struct Trial<'a> {
    pub stage: &'a Stage,
    place: Option<Place>,
    trouble: Trouble,
    struck_before: u32,
    was_late: AtomicBool,
    /// Messages of each stream that were there before.
    heads: Vec<(&'static str, i64)>,
    orders: Mutex<Vec<String>>,
}

impl<'a> Trial<'a> {
    /// Nothing happens yet: stories first prepare, then say [`Trial::begins`].
    pub async fn of(stage: &'a Stage, place: Option<Place>, trouble: Trouble) -> Trial<'a> {
        let mut heads = Vec::new();
        for source in onrush::audit::SERVICES {
            heads.push((*source, stage.app.sql_i64(&format!("select coalesce(max(seq),0) from {source}_outbox")).await));
        }
        let struck_before = place.map_or(0, |place| stage.app.faults.struck(place.reader, place.kind));
        Trial { stage, place, trouble, struck_before, was_late: AtomicBool::new(false), heads, orders: Mutex::default() }
    }

    /// The first message of the right kind from here on meets the trouble.
    pub async fn begins(&self) {
        self.stage.settle().await;
        let Some(Place { reader, kind, .. }) = self.place else { return };
        match self.trouble {
            Trouble::Fail => self.stage.app.faults.fail(reader, kind, 1),
            // Every time: a repeat that its reader cannot stand must not be healed by a retry without it.
            Trouble::Repeat => self.stage.app.faults.repeat(reader, kind, u32::MAX),
            Trouble::Late => self.stage.app.faults.hold(reader, kind),
        }
    }

    /// The trouble was there, and is over.
    pub fn ends(&self, named: &str) {
        let Some(Place { reader, kind, .. }) = self.place else { return };
        let faults = &self.stage.app.faults;
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
    pub async fn place(&self, shopper: &Shopper, body: &Value) -> String {
        let placed = self.act(shopper, "/v1/orders", body).await;
        let id = placed.body["id"].as_str().or(placed.body["order_id"].as_str());
        let id = id.unwrap_or_else(|| panic!("no order in {placed:?}")).to_owned();
        self.orders.lock().expect("nobody panics with it").push(id.clone());
        id
    }

    /// Does something without waiting for the order to rest.
    pub async fn act(&self, shopper: &Shopper, path: &str, body: &Value) -> TestResponse {
        let answer = self.stage.post(shopper, path, &new_id().to_string(), body).await;
        assert!(answer.status < 500, "{answer:?}");
        answer
    }

    /// Waits until everything rests. A message that is held is let go when its deadline is over.
    pub async fn rest(&self) {
        for _ in 0..3_000 {
            if self.trouble == Trouble::Late && self.keeps_waiting().await {
                self.let_go().await;
            }
            if self.stage.is_quiet().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?} {:?}: it does not come to rest: {:#?}", self.place, self.trouble, self.stage.audit().await);
    }

    /// True when the message is written, and everything before it is read.
    async fn keeps_waiting(&self) -> bool {
        let Some(place) = self.place.filter(|_| !self.was_late.load(Ordering::SeqCst)) else { return false };
        self.is_waiting(place).await > 0
    }

    /// How many messages of this kind their reader has before it.
    pub async fn is_waiting(&self, Place { reader, source, kind }: Place) -> i64 {
        let sql = format!(
            "select count(*) from {source}_outbox where kind='{kind}' and seq>
             (select coalesce(max(seq),0) from {reader}_positions where source='{source}')"
        );
        self.stage.app.sql_i64(&sql).await
    }

    async fn let_go(&self) {
        let Some(Place { reader, kind, .. }) = self.place else { return };
        self.was_late.store(true, Ordering::SeqCst);
        self.stage.app.clock.advance(LATE);
        self.stage.app.job("orders.due").await;
        self.stage.app.faults.release(reader, kind);
        self.stage.wake().await;
    }

    /// How the story's orders stand, in the order they were placed.
    pub async fn states(&self) -> Vec<String> {
        let ids = self.orders.lock().expect("nobody panics with it").clone();
        let mut states = Vec::new();
        for id in ids {
            let found: Vec<(String,)> = self.stage.app.rows(&format!("select state from orders_orders where id={}", blob(&id))).await;
            states.extend(found.into_iter().map(|(state,)| state));
        }
        states
    }

    /// Which of these places got a message since the beginning.
    pub async fn reached(&self, places: &[Place]) -> Vec<Place> {
        let mut reached = Vec::new();
        for place in places {
            let from = self.heads.iter().find(|(source, _)| *source == place.source).map_or(0, |(_, head)| *head);
            let sql = format!("select count(*) from {}_outbox where kind='{}' and seq>{from}", place.source, place.kind);
            if self.stage.app.sql_i64(&sql).await > 0 {
                reached.push(*place);
            }
        }
        reached
    }
}
