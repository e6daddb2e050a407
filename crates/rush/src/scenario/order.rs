//! One-call orders of one unit: the turns of a rush, and what their answers say.

use super::claim::ClaimSeen;
use crate::{
    engine::{
        plan::{self, Done, Plan, Step, Trail},
        tally::Record,
        wire::{Answer, Call},
    },
    shoppers::Shopper,
};
use bytes::Bytes;
use contracts::Code;
use http::{HeaderValue, Uri};
use serde::Deserialize;
use serde_json::Value;
use std::{borrow::Cow, sync::Arc, time::Duration};
use uuid::Uuid;

/// An order that does not rest although it was waited for is asked after this often, then taken as it is.
const LOOKS_AT_AN_ORDER: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// What the server is asked to wait for the order to rest.
const PREFER_WAIT: HeaderValue = HeaderValue::from_static("wait=10");

/// How an order ended, as its buyer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderSeen {
    Paid {
        order_id: Uuid,
    },
    /// Not sold; the order's id when one came to exist.
    Refused {
        order_id: Option<Uuid>,
    },
    Unknown,
}

#[derive(Deserialize)]
struct OrderBody<'a> {
    id: Uuid,
    #[serde(borrow)]
    state: Cow<'a, str>,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Paid,
    Ended,
}

pub fn stage(state: &str) -> Option<Stage> {
    Some(match state {
        "PENDING" | "AWAITING_PAYMENT" | "PAYING" | "CANCELLING" => Stage::Running,
        "PAID" | "PREPARING" | "SHIPPING" | "DELIVERED" | "READY" | "PICKED_UP" | "CONFIRMED" => Stage::Paid,
        "FAILED" | "EXPIRED" | "CANCELLED" | "REFUNDING" | "REFUNDED" => Stage::Ended,
        _ => return None,
    })
}

/// An order's id and stage, from its JSON.
pub fn read_stage(body: &[u8]) -> Option<(Uuid, Stage)> {
    let body = serde_json::from_slice::<OrderBody<'_>>(body).ok()?;
    Some((body.id, stage(&body.state)?))
}

/// Why an order that exists was not sold: its reason, else the first problem named anywhere in it.
fn reason(body: &[u8]) -> &'static str {
    fn find(value: &Value) -> Option<Code> {
        match value {
            Value::String(text) => Code::from_slug(text.trim_start_matches("/problems/")),
            Value::Array(items) => items.iter().find_map(find),
            Value::Object(fields) => fields.values().find_map(find),
            _ => None,
        }
    }
    let order = serde_json::from_slice::<Value>(body).ok();
    let named = order.as_ref().and_then(|order| order.get("reason").and_then(find).or_else(|| find(order)));
    named.map_or("failed", Code::slug)
}

fn order_uri(order_id: Uuid) -> Uri {
    Uri::try_from(format!("/v1/orders/{order_id}")).expect("a path of letters, digits and dashes is a URI")
}

pub fn read_back(order_id: Uuid, shopper: &Shopper) -> Call {
    Call::get(order_uri(order_id), Some(shopper.bearer.clone()))
}

/// Reads an answer to an order, or to a look at it.
pub fn read(shopper: &Shopper, answer: &Answer<'_>, trail: &Trail) -> Step<OrderSeen> {
    if !(200..300).contains(&answer.status) {
        let order_id = serde_json::from_slice::<Value>(answer.body).ok().and_then(|body| body.get("order_id")?.as_str()?.parse().ok());
        return Step::Done(match (answer.status, plan::refusal(answer)) {
            // An order that fails with 500 may still have been taken.
            (500.., label) => Done::not(label, OrderSeen::Unknown),
            (_, label) => Done::not(label, OrderSeen::Refused { order_id }),
        });
    }
    let Some((order_id, stage)) = read_stage(answer.body) else { return Step::Done(Done::not("unreadable", OrderSeen::Unknown)) };
    Step::Done(match stage {
        Stage::Paid => Done::won("paid", OrderSeen::Paid { order_id }),
        Stage::Ended => Done::not(reason(answer.body), OrderSeen::Refused { order_id: Some(order_id) }),
        Stage::Running if trail.follow_ups < LOOKS_AT_AN_ORDER => {
            return Step::Follow { call: Box::new(read_back(order_id, shopper)), after: BETWEEN_LOOKS };
        }
        Stage::Running => Done::not("still-open", OrderSeen::Unknown),
    })
}

/// Patience ended: an order that never reached the server is surely none.
pub fn give_up(trail: &Trail) -> Done<OrderSeen> {
    let seen = if trail.may_have_acted() { OrderSeen::Unknown } else { OrderSeen::Refused { order_id: None } };
    Done::not(plan::gave_up(trail), seen)
}

/// What every order of a run has in common.
#[derive(Clone, Debug)]
pub struct OrderForm {
    pub sku: Uuid,
    pub points: i64,
    /// Names the run in the idempotency keys.
    pub run: String,
}

impl OrderForm {
    /// The order of a shopper; repeating it with the same turn repeats its key.
    pub fn call(&self, shopper: &Shopper, turn: u32, coupon: Option<Uuid>) -> Call {
        let Self { sku, points, run } = self;
        let coupons = coupon.map(|id| format!(r#","coupons":["{id}"]"#)).unwrap_or_default();
        let points = if *points > 0 { format!(r#","points":{points}"#) } else { String::new() };
        let body = format!(r#"{{"items":[{{"sku":"{sku}","quantity":1}}]{coupons}{points},"payment":{{"method":"wallet"}}}}"#);
        let mut call = Call::post(Uri::from_static("/v1/orders"), Some(shopper.bearer.clone()), Bytes::from(body));
        call.idempotency_key = Some(HeaderValue::try_from(format!("{run}-{turn}")).expect("letters, digits and dashes are a header value"));
        call.prefer = Some(PREFER_WAIT);
        call
    }
}

/// Each buyer orders once, with the coupon it has.
pub struct OrderOnce {
    pub form: OrderForm,
    pub shoppers: Arc<Vec<Shopper>>,
    /// Of each shopper, the coupon to use.
    pub coupons: Vec<Option<Uuid>>,
}

impl OrderOnce {
    pub fn coupons_of(shoppers: usize, claims: &[Record<ClaimSeen>]) -> Vec<Option<Uuid>> {
        let mut coupons = vec![None; shoppers];
        for record in claims {
            if let ClaimSeen::Issued { issued_coupon_id, .. } = record.seen {
                coupons[record.turn as usize] = Some(issued_coupon_id);
            }
        }
        coupons
    }
}

impl Plan for OrderOnce {
    type Seen = OrderSeen;

    fn operations(&self) -> &'static [&'static str] {
        &["order"]
    }
    fn turns(&self) -> Option<u32> {
        Some(self.shoppers.len() as u32)
    }
    fn call(&self, turn: u32, _elapsed_nanos: u64) -> Option<Call> {
        let shopper = self.shoppers.get(turn as usize)?;
        Some(self.form.call(shopper, turn, self.coupons[turn as usize]))
    }
    fn read(&self, turn: u32, answer: &Answer<'_>, trail: &Trail) -> Step<OrderSeen> {
        read(&self.shoppers[turn as usize], answer, trail)
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<OrderSeen> {
        give_up(trail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shopper() -> Shopper {
        Shopper { member_id: Uuid::from_u128(1), bearer: HeaderValue::from_static("Bearer t") }
    }

    fn done(status: u16, body: &str) -> (&'static str, Option<OrderSeen>) {
        match read(&shopper(), &Answer { status, retry_after: None, body: body.as_bytes() }, &Trail::default()) {
            Step::Done(done) => (done.label, done.seen),
            Step::Follow { .. } => ("follow", None),
        }
    }

    #[test]
    fn reads_every_end_of_an_order() {
        let order_id = Uuid::from_u128(9);
        let order = |state: &str, more: &str| format!(r#"{{"id":"{order_id}","state":"{state}","lines":[]{more}}}"#);
        assert_eq!(done(201, &order("PAID", "")), ("paid", Some(OrderSeen::Paid { order_id })));
        let failed = order("FAILED", r#","failure":{"code":"out-of-stock","detail":"gone"}"#);
        assert_eq!(done(201, &failed), ("out-of-stock", Some(OrderSeen::Refused { order_id: Some(order_id) })));
        let reasoned = order("FAILED", r#","coupons":[{"name":"sold-out"}],"reason":{"type":"insufficient-funds","detail":"…"}"#);
        assert_eq!(done(201, &reasoned).0, "insufficient-funds");
        assert_eq!(done(201, &order("PAYING", "")).0, "follow");
        let problem = format!(r#"{{"type":"/problems/out-of-stock","order_id":"{order_id}"}}"#);
        assert_eq!(done(409, &problem), ("out-of-stock", Some(OrderSeen::Refused { order_id: Some(order_id) })));
        assert_eq!(done(500, "{}"), ("http-500", Some(OrderSeen::Unknown)));
        assert_eq!(done(200, "{}"), ("unreadable", Some(OrderSeen::Unknown)));
    }

    #[test]
    fn an_order_is_valid_json_with_and_without_extras() {
        let form = OrderForm { sku: Uuid::from_u128(2), points: 100, run: "rush-1".to_owned() };
        let full: Value = serde_json::from_slice(&form.call(&shopper(), 3, Some(Uuid::from_u128(4))).body).unwrap();
        assert_eq!(full["points"], 100);
        assert_eq!(full["coupons"].as_array().unwrap().len(), 1);
        let bare = OrderForm { points: 0, ..form }.call(&shopper(), 3, None);
        let body: Value = serde_json::from_slice(&bare.body).unwrap();
        assert_eq!((body.get("points"), body.get("coupons")), (None, None));
        assert_eq!(bare.idempotency_key.unwrap(), "rush-1-3");
    }
}
