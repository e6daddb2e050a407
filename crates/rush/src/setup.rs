//! Sets up the rush: an operator creates a coupon and a product with stock through the public API.

use crate::{
    OperatorLogin, RushError,
    load::connection::{ExchangeFailure, HttpConnection, PreparedRequest, TargetServer},
    run_clock::wall_clock,
    shoppers::bearer,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{runtime, time::sleep};
use uuid::Uuid;

/// Seconds within which the stock of a new product must appear. The catalogue announces it by a message.
const STOCK_TIMEOUT_SECONDS: u64 = 10;
/// Attempts of a set-up request on a busy or starting server.
const MAX_ATTEMPTS: u32 = 40;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// The coupon opens in the past, so that a difference between the clocks does not leave it closed.
const OPENED_AGO: Duration = Duration::from_secs(60);
const OPEN_FOR: Duration = Duration::from_secs(24 * 3600);
const VALID_DAYS: u32 = 30;

/// Sends single requests, one after the other, with JSON in both directions.
pub struct SetupClient {
    runtime: runtime::Runtime,
    connection: HttpConnection,
    target: Arc<TargetServer>,
    bearer: Option<HeaderValue>,
}

pub struct SetupResponse {
    pub status: u16,
    pub body: Value,
}

impl SetupClient {
    pub fn new(target: Arc<TargetServer>) -> Result<Self, RushError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(RushError::Thread)?;
        Ok(Self { runtime, connection: HttpConnection::new(Arc::clone(&target)), target, bearer: None })
    }

    pub fn sign_in(&mut self, operator: &OperatorLogin) -> Result<(), RushError> {
        let token = match operator {
            OperatorLogin::Token(token) => token.clone(),
            OperatorLogin::Credentials { email, password } => {
                const STEP: &str = "signing the operator in";
                let session = self.expect(STEP, Method::POST, "/v1/sessions", json!({"email": email, "password": password}))?;
                let token = session.get("access_token").and_then(Value::as_str);
                // The answer is not shown, because it may hold other secrets.
                token.ok_or(RushError::Answer { step: STEP, field: "access_token", body: "(not shown)".to_owned() })?.to_owned()
            }
        };
        self.bearer = Some(bearer(&token).ok_or(RushError::Missing("an operator token that a header can carry"))?);
        Ok(())
    }

    /// The `Authorization` of the caller. `None`: the caller has not signed in.
    pub fn bearer(&self) -> Option<HeaderValue> {
        self.bearer.clone()
    }

    /// Sends one request and repeats it while the server is down or busy, or the connection breaks. Set-up requests are safe to repeat.
    pub fn ask(&mut self, method: Method, path: &str, body: &Value) -> Result<SetupResponse, RushError> {
        let uri: Uri = path.parse().map_err(|_| RushError::Url(path.to_owned()))?;
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let key = format!("rush-setup-{}-{}", wall_clock().0, std::process::id());
        let idempotency_key = (method == Method::POST && self.bearer.is_some()).then(|| HeaderValue::try_from(key).ok()).flatten();
        let request = PreparedRequest { method, uri, bearer: self.bearer.clone(), idempotency_key, prefer: None, body: bytes };
        let Self { runtime, connection, .. } = self;
        for _ in 0..MAX_ATTEMPTS {
            match runtime.block_on(connection.exchange(&request)) {
                Ok(answer) if answer.status != 503 => {
                    let body = serde_json::from_slice(answer.body)
                        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(answer.body).into_owned()));
                    return Ok(SetupResponse { status: answer.status, body });
                }
                Ok(_) | Err(ExchangeFailure::NotSent | ExchangeFailure::Lost) => runtime.block_on(async { sleep(ATTEMPT_INTERVAL).await }),
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

    pub fn create_coupon(&mut self, coupon: &CouponSetup<'_>) -> Result<Uuid, RushError> {
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

    /// Creates a product with one option. Returns its id and SKU once the stock exists.
    pub fn create_product(&mut self, name: &str, price: i64, stock: u64) -> Result<CreatedProduct, RushError> {
        let body = json!({"name": name, "price": price, "options": [{"name": "one", "stock": stock}]});
        let created = self.expect("creating the product", Method::POST, "/v1/products", body)?;
        let product_id = id(&created, "creating the product", "id")?;
        let shown = match created.pointer("/options/0/sku") {
            Some(_) => created,
            None => self.expect("reading the product", Method::GET, &format!("/v1/products/{product_id}"), Value::Null)?,
        };
        let sku = shown.pointer("/options/0/sku").and_then(Value::as_str).and_then(|sku| sku.parse().ok());
        let sku = sku.ok_or_else(|| RushError::Answer { step: "reading the product", field: "options[0].sku", body: shown.to_string() })?;
        for _ in 0..STOCK_TIMEOUT_SECONDS * 20 {
            if self.stock(sku)?.is_some_and(|found| found.on_hand == stock as i64) {
                return Ok(CreatedProduct { product_id, sku });
            }
            self.runtime.block_on(async { sleep(Duration::from_millis(50)).await });
        }
        Err(RushError::NoStock(STOCK_TIMEOUT_SECONDS))
    }

    /// The stock of a SKU. `None`: the server does not know the SKU yet.
    pub fn stock(&mut self, sku: Uuid) -> Result<Option<StockCounts>, RushError> {
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
        Ok(Some(StockCounts { on_hand, reserved, available: number("available")?, sold: number("sold")? }))
    }

    /// Waits until no order holds units of the SKU, at most for `patience`. Returns the last state seen.
    pub fn wait_for_settled_stock(&mut self, sku: Uuid, patience: Duration) -> Result<Option<StockCounts>, RushError> {
        let mut waited = Duration::ZERO;
        loop {
            let stock = self.stock(sku)?;
            if stock.is_none_or(|stock| stock.reserved == 0) || waited >= patience {
                return Ok(stock);
            }
            self.runtime.block_on(async { sleep(ATTEMPT_INTERVAL).await });
            waited += ATTEMPT_INTERVAL;
        }
    }

    /// The server's counts of a coupon: (remaining, waiting). `None`: the server does not show that count.
    pub fn coupon_counts(&mut self, coupon_id: Uuid) -> Result<(Option<i64>, Option<i64>), RushError> {
        let coupon = self.expect("reading the coupon", Method::GET, &format!("/v1/coupons/{coupon_id}"), Value::Null)?;
        let number = |field| coupon.get(field).and_then(Value::as_i64);
        Ok((number("remaining"), number("waiting")))
    }

    /// Ids of the products on the first page of the list.
    pub fn list_product_ids(&mut self) -> Result<Vec<Uuid>, RushError> {
        let page = self.expect("listing products", Method::GET, "/v1/products?limit=100", Value::Null)?;
        let items = page.get("items").and_then(Value::as_array);
        let items = items.ok_or_else(|| RushError::Answer { step: "listing products", field: "items", body: page.to_string() })?;
        Ok(items.iter().filter_map(|item| item.get("id")?.as_str()?.parse().ok()).collect())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct CouponSetup<'a> {
    pub name: &'a str,
    /// `None`: unlimited.
    pub quantity: Option<u64>,
    pub waitlist: bool,
    pub discount: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct CreatedProduct {
    pub product_id: Uuid,
    pub sku: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockCounts {
    pub on_hand: i64,
    pub reserved: i64,
    pub available: i64,
    pub sold: i64,
}

fn id(body: &Value, step: &'static str, field: &'static str) -> Result<Uuid, RushError> {
    let id = body.get(field).and_then(Value::as_str).and_then(|id| id.parse().ok());
    id.ok_or_else(|| RushError::Answer { step, field, body: body.to_string() })
}
