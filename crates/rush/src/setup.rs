//! What must exist before the rush: a coupon, a product with stock. Made through the public API by an operator.

use crate::{
    Operator, RushError,
    clock::wall_clock,
    engine::wire::{Call, Failure, Target, Wire},
    shoppers::bearer,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{runtime, time::sleep};
use uuid::Uuid;

/// How long the stock of a new product may take to appear: it travels in a message from the catalogue.
const STOCK_APPEARS_SECONDS: u64 = 10;
/// A busy or starting server is asked this often before a set-up call is given up.
const ATTEMPTS: u32 = 40;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);
/// Opens in the past, so that a clock slightly ahead does not find it closed.
const OPENED_AGO: Duration = Duration::from_secs(60);
const OPEN_FOR: Duration = Duration::from_secs(24 * 3600);
const VALID_DAYS: u32 = 30;

/// A caller of single requests, one after the other, with JSON in and out.
pub struct Caller {
    runtime: runtime::Runtime,
    wire: Wire,
    target: Arc<Target>,
    bearer: Option<HeaderValue>,
}

pub struct Response {
    pub status: u16,
    pub body: Value,
}

impl Caller {
    pub fn new(target: Arc<Target>) -> Result<Self, RushError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(RushError::Thread)?;
        Ok(Self { runtime, wire: Wire::new(Arc::clone(&target)), target, bearer: None })
    }

    pub fn sign_in(&mut self, operator: &Operator) -> Result<(), RushError> {
        let token = match operator {
            Operator::Token(token) => token.clone(),
            Operator::Credentials { email, password } => {
                const STEP: &str = "signing the operator in";
                let session = self.expect(STEP, Method::POST, "/v1/sessions", json!({"email": email, "password": password}))?;
                let token = session.get("access_token").and_then(Value::as_str);
                // The answer is not shown: it may hold other secrets.
                token.ok_or(RushError::Answer { step: STEP, field: "access_token", body: "(not shown)".to_owned() })?.to_owned()
            }
        };
        self.bearer = Some(bearer(&token).ok_or(RushError::Missing("an operator token that a header can carry"))?);
        Ok(())
    }

    /// One request, repeated while the server is away, busy or the connection is lost; the set-up's own requests may be repeated.
    pub fn ask(&mut self, method: Method, path: &str, body: &Value) -> Result<Response, RushError> {
        let uri: Uri = path.parse().map_err(|_| RushError::Url(path.to_owned()))?;
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let key = format!("rush-setup-{}-{}", wall_clock().0, std::process::id());
        let idempotency_key = (method == Method::POST && self.bearer.is_some()).then(|| HeaderValue::try_from(key).ok()).flatten();
        let call = Call { method, uri, bearer: self.bearer.clone(), idempotency_key, prefer: None, body: bytes };
        let Self { runtime, wire, .. } = self;
        for _ in 0..ATTEMPTS {
            match runtime.block_on(wire.exchange(&call)) {
                Ok(answer) if answer.status != 503 => {
                    let body = serde_json::from_slice(answer.body)
                        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(answer.body).into_owned()));
                    return Ok(Response { status: answer.status, body });
                }
                Ok(_) | Err(Failure::NotSent | Failure::Lost) => runtime.block_on(async { sleep(BETWEEN_ATTEMPTS).await }),
            }
        }
        Err(RushError::Unreachable { url: self.target.url.clone() })
    }

    fn expect(&mut self, step: &'static str, method: Method, path: &str, body: Value) -> Result<Value, RushError> {
        let response = self.ask(method, path, &body)?;
        if (200..300).contains(&response.status) {
            return Ok(response.body);
        }
        Err(RushError::Setup { step, status: response.status, body: response.body.to_string() })
    }

    pub fn create_coupon(&mut self, coupon: &NewCoupon<'_>) -> Result<Uuid, RushError> {
        let now = wall_clock();
        let mut body = json!({
            "name": coupon.name,
            "kind": if coupon.quantity.is_some() { "first_come" } else { "unlimited" },
            "discount": {"type": "amount", "won": coupon.discount},
            "scope": "order",
            "per_member": 1,
            "issue_from": now.before(OPENED_AGO),
            "issue_until": now.after(OPEN_FOR),
            "valid_days": VALID_DAYS,
            "waitlist": coupon.waitlist,
        });
        if let Some(quantity) = coupon.quantity {
            body["quantity"] = json!(quantity);
        }
        let created = self.expect("creating the coupon", Method::POST, "/v1/coupons", body)?;
        id(&created, "creating the coupon", "id")
    }

    /// A product with one option; answers its id and SKU once the stock is there.
    pub fn create_product(&mut self, name: &str, price: i64, stock: u64) -> Result<Product, RushError> {
        let body = json!({"name": name, "price": price, "options": [{"name": "one", "stock": stock}]});
        let created = self.expect("creating the product", Method::POST, "/v1/products", body)?;
        let product_id = id(&created, "creating the product", "id")?;
        let shown = match created.pointer("/options/0/sku") {
            Some(_) => created,
            None => self.expect("reading the product", Method::GET, &format!("/v1/products/{product_id}"), Value::Null)?,
        };
        let sku = shown.pointer("/options/0/sku").and_then(Value::as_str).and_then(|sku| sku.parse().ok());
        let sku = sku.ok_or_else(|| RushError::Answer { step: "reading the product", field: "options[0].sku", body: shown.to_string() })?;
        for _ in 0..STOCK_APPEARS_SECONDS * 20 {
            if self.stock(sku)?.is_some_and(|found| found.on_hand == stock as i64) {
                return Ok(Product { product_id, sku });
            }
            self.runtime.block_on(async { sleep(Duration::from_millis(50)).await });
        }
        Err(RushError::NoStock(STOCK_APPEARS_SECONDS))
    }

    /// The stock of a SKU; `None` while the server does not know it.
    pub fn stock(&mut self, sku: Uuid) -> Result<Option<Stock>, RushError> {
        let response = self.ask(Method::GET, &format!("/v1/stock/{sku}"), &Value::Null)?;
        match response.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(RushError::Setup { step: "reading the stock", status, body: response.body.to_string() }),
        }
        let number = |field| {
            let found = response.body.get(field).and_then(Value::as_i64);
            found.ok_or_else(|| RushError::Answer { step: "reading the stock", field, body: response.body.to_string() })
        };
        let (on_hand, reserved) = (number("on_hand")?, number("reserved")?);
        Ok(Some(Stock { on_hand, reserved, available: number("available")?, sold: number("sold")? }))
    }

    /// Waits until nothing of the SKU is held by an order any more, but not longer than `patience`; answers the last state seen.
    pub fn stock_at_rest(&mut self, sku: Uuid, patience: Duration) -> Result<Option<Stock>, RushError> {
        let mut waited = Duration::ZERO;
        loop {
            let stock = self.stock(sku)?;
            if stock.is_none_or(|stock| stock.reserved == 0) || waited >= patience {
                return Ok(stock);
            }
            self.runtime.block_on(async { sleep(BETWEEN_ATTEMPTS).await });
            waited += BETWEEN_ATTEMPTS;
        }
    }

    /// What the server says of a coupon: (remaining, waiting), each when it says so.
    pub fn coupon_counts(&mut self, coupon_id: Uuid) -> Result<(Option<i64>, Option<i64>), RushError> {
        let coupon = self.expect("reading the coupon", Method::GET, &format!("/v1/coupons/{coupon_id}"), Value::Null)?;
        let number = |field| coupon.get(field).and_then(Value::as_i64);
        Ok((number("remaining"), number("waiting")))
    }

    /// Ids of products on the first page of the list, for reading them.
    pub fn some_products(&mut self) -> Result<Vec<Uuid>, RushError> {
        let page = self.expect("listing products", Method::GET, "/v1/products?limit=100", Value::Null)?;
        let items = page.get("items").and_then(Value::as_array);
        let items = items.ok_or_else(|| RushError::Answer { step: "listing products", field: "items", body: page.to_string() })?;
        Ok(items.iter().filter_map(|item| item.get("id")?.as_str()?.parse().ok()).collect())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NewCoupon<'a> {
    pub name: &'a str,
    /// `None`: unlimited.
    pub quantity: Option<u64>,
    pub waitlist: bool,
    pub discount: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub product_id: Uuid,
    pub sku: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    pub on_hand: i64,
    pub reserved: i64,
    pub available: i64,
    pub sold: i64,
}

fn id(body: &Value, step: &'static str, field: &'static str) -> Result<Uuid, RushError> {
    let id = body.get(field).and_then(Value::as_str).and_then(|id| id.parse().ok());
    id.ok_or_else(|| RushError::Answer { step, field, body: body.to_string() })
}
