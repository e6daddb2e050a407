//! Orders of one unit in one request: their requests, and the meaning of their answers.

use super::claim::ClaimObservation;
use crate::{
    load::{
        connection::{PreparedRequest, ServerAnswer},
        stats::IterationRecord,
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
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

/// Polls of an order that is still running after the wait. Then its outcome counts as unknown.
const MAX_ORDER_POLLS: u32 = 40;
const ORDER_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Asks the server to wait until the order is settled.
const PREFER_WAIT: HeaderValue = HeaderValue::from_static("wait=10");

/// Outcome of an order, as its buyer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderObservation {
    Paid {
        order_id: Uuid,
    },
    /// Not sold. `order_id` is `None` if no order was created.
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

/// Progress of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStage {
    Running,
    Paid,
    Ended,
}

pub fn stage(state: &str) -> Option<OrderStage> {
    Some(match state {
        "PENDING" | "AWAITING_PAYMENT" | "PAYING" | "CANCELLING" => OrderStage::Running,
        "PAID" | "PREPARING" | "SHIPPING" | "DELIVERED" | "READY" | "PICKED_UP" | "CONFIRMED" => OrderStage::Paid,
        "FAILED" | "EXPIRED" | "CANCELLED" | "REFUNDING" | "REFUNDED" => OrderStage::Ended,
        _ => return None,
    })
}

/// An order's id and stage, from its JSON.
pub fn read_stage(body: &[u8]) -> Option<(Uuid, OrderStage)> {
    let body = serde_json::from_slice::<OrderBody<'_>>(body).ok()?;
    Some((body.id, stage(&body.state)?))
}

/// Reason why an existing order was not sold: its `reason`, else the first problem slug found in it.
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

pub fn read_request(order_id: Uuid, shopper: &Shopper) -> PreparedRequest {
    PreparedRequest::get(order_uri(order_id), Some(shopper.bearer.clone()))
}

/// Reads the answer to an order, or to a poll of it.
pub fn read_answer(shopper: &Shopper, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<OrderObservation> {
    if !(200..300).contains(&answer.status) {
        let order_id = serde_json::from_slice::<Value>(answer.body).ok().and_then(|body| body.get("order_id")?.as_str()?.parse().ok());
        return NextStep::Finish(match (answer.status, workload::refusal_label(answer)) {
            // The server may have accepted an order although it answered 500.
            (500.., label) => Finished::not_won(label, OrderObservation::Unknown),
            (_, label) => Finished::not_won(label, OrderObservation::Refused { order_id }),
        });
    }
    let Some((order_id, stage)) = read_stage(answer.body) else {
        return NextStep::Finish(Finished::not_won("unreadable", OrderObservation::Unknown));
    };
    NextStep::Finish(match stage {
        OrderStage::Paid => Finished::won("paid", OrderObservation::Paid { order_id }),
        OrderStage::Ended => Finished::not_won(reason(answer.body), OrderObservation::Refused { order_id: Some(order_id) }),
        OrderStage::Running if attempts.follow_ups < MAX_ORDER_POLLS => {
            return NextStep::Follow { request: Box::new(read_request(order_id, shopper)), after: ORDER_POLL_INTERVAL };
        }
        OrderStage::Running => Finished::not_won("still-open", OrderObservation::Unknown),
    })
}

/// Ends an order whose `patience` ended. An order that never reached the server is refused for certain.
pub fn give_up(attempts: &IterationAttempts) -> Finished<OrderObservation> {
    let observation = if attempts.may_have_acted() { OrderObservation::Unknown } else { OrderObservation::Refused { order_id: None } };
    Finished::not_won(workload::give_up_label(attempts), observation)
}

/// Common part of all orders of a run.
#[derive(Clone, Debug)]
pub struct OrderForm {
    pub sku: Uuid,
    pub points: i64,
    /// Name of the run, for the idempotency keys.
    pub run: String,
}

impl OrderForm {
    /// The order of a shopper. The same iteration has the same idempotency key.
    pub fn request(&self, shopper: &Shopper, iteration: u32, coupon: Option<Uuid>) -> PreparedRequest {
        let Self { sku, points, run } = self;
        let coupons = coupon.map(|id| format!(r#","coupons":["{id}"]"#)).unwrap_or_default();
        let points = if *points > 0 { format!(r#","points":{points}"#) } else { String::new() };
        let body = format!(r#"{{"items":[{{"sku":"{sku}","quantity":1}}]{coupons}{points},"payment":{{"method":"wallet"}}}}"#);
        let mut request = PreparedRequest::post(Uri::from_static("/v1/orders"), Some(shopper.bearer.clone()), Bytes::from(body));
        request.idempotency_key =
            Some(HeaderValue::try_from(format!("{run}-{iteration}")).expect("letters, digits and dashes are a header value"));
        request.prefer = Some(PREFER_WAIT);
        request
    }
}

/// Each shopper orders once, with their coupon if they have one.
pub struct OrderOnce {
    pub form: OrderForm,
    pub shoppers: Arc<Vec<Shopper>>,
    /// The coupon of each shopper.
    pub coupons: Vec<Option<Uuid>>,
}

impl OrderOnce {
    pub fn coupons_of(shoppers: usize, claims: &[IterationRecord<ClaimObservation>]) -> Vec<Option<Uuid>> {
        let mut coupons = vec![None; shoppers];
        for record in claims {
            if let ClaimObservation::Issued { issued_coupon_id, .. } = record.observation {
                coupons[record.iteration as usize] = Some(issued_coupon_id);
            }
        }
        coupons
    }
}

impl Workload for OrderOnce {
    type Observation = OrderObservation;

    fn operations(&self) -> &'static [&'static str] {
        &["order"]
    }
    fn iterations(&self) -> Option<u32> {
        Some(self.shoppers.len() as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        let shopper = self.shoppers.get(iteration as usize)?;
        Some(self.form.request(shopper, iteration, self.coupons[iteration as usize]))
    }
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<OrderObservation> {
        read_answer(&self.shoppers[iteration as usize], answer, attempts)
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<OrderObservation> {
        give_up(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shopper() -> Shopper {
        Shopper { member_id: Uuid::from_u128(1), bearer: HeaderValue::from_static("Bearer t") }
    }

    fn done(status: u16, body: &str) -> (&'static str, Option<OrderObservation>) {
        match read_answer(&shopper(), &ServerAnswer { status, retry_after: None, body: body.as_bytes() }, &IterationAttempts::default()) {
            NextStep::Finish(done) => (done.label, done.observation),
            NextStep::Follow { .. } => ("follow", None),
        }
    }

    #[test]
    fn every_outcome_of_an_order_is_read() {
        let order_id = Uuid::from_u128(9);
        let order = |state: &str, more: &str| format!(r#"{{"id":"{order_id}","state":"{state}","lines":[]{more}}}"#);
        assert_eq!(done(201, &order("PAID", "")), ("paid", Some(OrderObservation::Paid { order_id })));
        let failed = order("FAILED", r#","failure":{"code":"out-of-stock","detail":"gone"}"#);
        assert_eq!(done(201, &failed), ("out-of-stock", Some(OrderObservation::Refused { order_id: Some(order_id) })));
        let reasoned = order("FAILED", r#","coupons":[{"name":"sold-out"}],"reason":{"type":"insufficient-funds","detail":"…"}"#);
        assert_eq!(done(201, &reasoned).0, "insufficient-funds");
        assert_eq!(done(201, &order("PAYING", "")).0, "follow");
        let problem = format!(r#"{{"type":"/problems/out-of-stock","order_id":"{order_id}"}}"#);
        assert_eq!(done(409, &problem), ("out-of-stock", Some(OrderObservation::Refused { order_id: Some(order_id) })));
        assert_eq!(done(500, "{}"), ("http-500", Some(OrderObservation::Unknown)));
        assert_eq!(done(200, "{}"), ("unreadable", Some(OrderObservation::Unknown)));
    }

    #[test]
    fn an_order_is_valid_json_with_and_without_extras() {
        let form = OrderForm { sku: Uuid::from_u128(2), points: 100, run: "rush-1".to_owned() };
        let full: Value = serde_json::from_slice(&form.request(&shopper(), 3, Some(Uuid::from_u128(4))).body).unwrap();
        assert_eq!(full["points"], 100);
        assert_eq!(full["coupons"].as_array().unwrap().len(), 1);
        let bare = OrderForm { points: 0, ..form }.request(&shopper(), 3, None);
        let body: Value = serde_json::from_slice(&bare.body).unwrap();
        assert_eq!((body.get("points"), body.get("coupons")), (None, None));
        assert_eq!(bare.idempotency_key.unwrap(), "rush-1-3");
    }
}
