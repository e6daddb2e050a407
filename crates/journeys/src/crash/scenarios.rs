//! Scenarios that run until the process crashes. Together they reach every crash point.

use super::crash_client::CrashClient;
use crate::{
    client::{BlockingRequest, TIME_LIMIT},
    process::{DataDir, SeededMember, StartOptions},
};
use serde_json::{Value, json};

/// A prepared mall without a process. Each scenario gets a copy.
pub struct PreparedMall {
    pub data_dir: DataDir,
    operator: String,
    shopper: SeededMember,
    /// SKUs: reserved at the order, taken at payment, the last unit taken at payment, and more expensive than any wallet's balance.
    goods: ScenarioGoods,
    coupon: String,
}

struct ScenarioGoods {
    reserved: String,
    taken_at_payment: String,
    last_unit: String,
    expensive: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashScenario {
    /// Claims, orders with coupon and points, pays in the same call, cancels.
    Everything,
    /// The cash does not suffice, so all holds are released.
    Unpayable,
    OutOfStock,
    NoPoints,
    /// Two orders for the last unit. The first to pay gets it.
    LastOne,
    /// Two concurrent orders with one coupon. Which one is refused, and at which step, varies.
    SameCoupon,
    PaidLater,
    Confirmed,
    /// The provider captures and refunds.
    Provider,
    /// The provider does not answer, and the buyer does not wait.
    SlowProvider,
    Expired,
    Cart,
    Money,
}

impl CrashScenario {
    pub const ALL: &[CrashScenario] = &[
        CrashScenario::Everything,
        CrashScenario::Unpayable,
        CrashScenario::OutOfStock,
        CrashScenario::NoPoints,
        CrashScenario::LastOne,
        CrashScenario::SameCoupon,
        CrashScenario::PaidLater,
        CrashScenario::Confirmed,
        CrashScenario::Provider,
        CrashScenario::SlowProvider,
        CrashScenario::Expired,
        CrashScenario::Cart,
        CrashScenario::Money,
    ];

    pub fn start(self, hop_by_hop: bool, choreographed: bool) -> StartOptions {
        StartOptions { hop_by_hop, choreographed, unpaid_seconds: (self == CrashScenario::Expired).then_some(1), ..StartOptions::default() }
    }

    /// True: every run has the same outcome.
    pub fn is_deterministic(self) -> bool {
        self != CrashScenario::SameCoupon
    }

    pub fn run(self, mall: &PreparedMall, client: &mut CrashClient<'_>) {
        match self {
            CrashScenario::Everything => everything(mall, client),
            CrashScenario::Unpayable => {
                let issued = claim(mall, client);
                client.place_order(
                    mall.token(),
                    &json!({"items": [item(&mall.goods.expensive, 1)], "coupons": [issued], "points": 500, "payment": wallet()}),
                );
            }
            CrashScenario::OutOfStock => {
                client.place_order(mall.token(), &json!({"items": [item(&mall.goods.last_unit, 2)], "payment": wallet()}));
            }
            CrashScenario::NoPoints => {
                client
                    .place_order(mall.token(), &json!({"items": [item(&mall.goods.expensive, 1)], "points": 100_001, "payment": wallet()}));
            }
            CrashScenario::LastOne => last_one(mall, client),
            CrashScenario::SameCoupon => same_coupon(mall, client),
            CrashScenario::PaidLater => {
                let order = client.place_order(mall.token(), &json!({"items": [item(&mall.goods.taken_at_payment, 1)]}));
                pay(mall, client, &order);
            }
            CrashScenario::Confirmed => confirmed(mall, client),
            CrashScenario::Provider => {
                let payment = json!({"method": "test", "token": "approve"});
                let order = client.place_order(mall.token(), &json!({"items": [item(&mall.goods.reserved, 1)], "payment": payment}));
                cancel(mall, client, &order);
            }
            CrashScenario::SlowProvider => {
                let payment = json!({"method": "test", "token": "timeout_after_charge"});
                let body = json!({"items": [item(&mall.goods.reserved, 1)], "payment": payment});
                let answer = client.send(BlockingRequest::post("/v1/orders", &body).bearer(mall.token()).with_new_key().wait_for(1));
                client.remember_order(mall.token(), &answer);
            }
            CrashScenario::Expired => {
                client.place_order(mall.token(), &json!({"items": [item(&mall.goods.reserved, 1)]}));
            }
            CrashScenario::Cart => cart(mall, client),
            CrashScenario::Money => money(mall, client),
        }
    }
}

/// The scenario that executes an operation.
pub fn scenario_of_operation(name: &str) -> Option<CrashScenario> {
    Some(match name {
        "coupons.claim" | "orders.create" | "orders.cancel" => CrashScenario::Everything,
        "orders.pay" => CrashScenario::PaidLater,
        "orders.advance" | "orders.confirm" => CrashScenario::Confirmed,
        "orders.fall_due" => CrashScenario::Expired,
        "orders.settle_answer" => CrashScenario::SlowProvider,
        "payments.settle" | "payments.settle_refund" => CrashScenario::Provider,
        "orders.add_cart_item" | "orders.set_cart_item" | "orders.remove_cart_item" => CrashScenario::Cart,
        "wallet.charge" | "wallet.grant" => CrashScenario::Money,
        _ => return None,
    })
}

/// The scenario that reaches a hop after enough repeats.
pub fn scenario_of_hop(name: &str) -> Option<CrashScenario> {
    (name == "orders.coupon.refused").then_some(CrashScenario::SameCoupon)
}

fn wallet() -> Value {
    json!({"method": "wallet"})
}

fn item(sku: &str, quantity: u32) -> Value {
    json!({"sku": sku, "quantity": quantity})
}

fn claim(mall: &PreparedMall, client: &mut CrashClient<'_>) -> String {
    let request = BlockingRequest::post(format!("/v1/coupons/{}/claims", mall.coupon), &json!({})).bearer(mall.token()).with_new_key();
    let claimed = client.send(request).expect(201);
    claimed.body["issued_coupon_id"].as_str().expect("the claim issued a coupon").to_owned()
}

fn pay(mall: &PreparedMall, client: &mut CrashClient<'_>, order: &str) {
    client.send(BlockingRequest::post(format!("/v1/orders/{order}/payments"), &wallet()).bearer(mall.token()).with_new_key().wait());
}

fn cancel(mall: &PreparedMall, client: &mut CrashClient<'_>, order: &str) {
    client.send(BlockingRequest::post(format!("/v1/orders/{order}/cancellation"), &json!({})).bearer(mall.token()).with_new_key().wait());
}

fn everything(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    let issued = claim(mall, client);
    let items = [item(&mall.goods.reserved, 2), item(&mall.goods.taken_at_payment, 1)];
    let order = client.place_order(mall.token(), &json!({"items": items, "coupons": [issued], "points": 500, "payment": wallet()}));
    cancel(mall, client, &order);
}

fn last_one(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    let body = json!({"items": [item(&mall.goods.last_unit, 1)]});
    let orders = [client.place_order(mall.token(), &body), client.place_order(mall.token(), &body)];
    for order in orders {
        pay(mall, client, &order);
    }
}

fn same_coupon(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    for _ in 0..40 {
        if client.deaths > 0 {
            return;
        }
        let issued = claim(mall, client);
        let body = json!({"items": [item(&mall.goods.reserved, 1)], "coupons": [issued], "payment": wallet()});
        let requests = [(); 2].map(|()| BlockingRequest::post("/v1/orders", &body).bearer(mall.token()).with_new_key().wait());
        let (mut first, mut second) = (client.server().client(), client.server().client());
        std::thread::scope(|scope| {
            // Requests lost here are repeated below.
            scope.spawn(|| first.send(&requests[0]));
            scope.spawn(|| second.send(&requests[1]));
        });
        for request in requests {
            let answer = client.send(request);
            // An order refused at admission does not exist, because the coupon was already held.
            if answer.body["id"].is_string() || answer.body["order_id"].is_string() {
                client.remember_order(mall.token(), &answer);
            }
        }
    }
}

fn confirmed(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    let order = client.place_order(mall.token(), &json!({"items": [item(&mall.goods.reserved, 1)], "payment": wallet()}));
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        client.send(
            BlockingRequest::post(format!("/v1/orders/{order}/fulfilment"), &json!({"state": state})).bearer(&mall.operator).with_new_key(),
        );
    }
    client.send(BlockingRequest::post(format!("/v1/orders/{order}/confirmation"), &json!({})).bearer(mall.token()).with_new_key());
}

fn cart(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    let path = |sku: &str| format!("/v1/cart/items/{sku}");
    for sku in [&mall.goods.reserved, &mall.goods.taken_at_payment] {
        client.send(BlockingRequest::post("/v1/cart/items", &item(sku, 1)).bearer(mall.token()).with_new_key());
    }
    client.send(BlockingRequest::put(path(&mall.goods.reserved), &json!({"quantity": 2})).bearer(mall.token()).with_new_key());
    client.send(BlockingRequest::delete(path(&mall.goods.taken_at_payment)).bearer(mall.token()).with_new_key());
    client.place_order(mall.token(), &json!({"from_cart": true, "payment": wallet()}));
}

fn money(mall: &PreparedMall, client: &mut CrashClient<'_>) {
    client.send(BlockingRequest::post("/v1/wallet/charges", &json!({"amount": 5_000})).bearer(mall.token()).with_new_key());
    let grant = json!({"member_id": mall.shopper.id, "amount": 700, "reason": "sorry"});
    client.send(BlockingRequest::post("/v1/wallet/grants", &grant).bearer(&mall.operator).with_new_key());
}

impl PreparedMall {
    /// Fills an empty data folder with a shopper, products and a coupon.
    pub fn build(data_dir: DataDir) -> PreparedMall {
        let shopper = data_dir.seed(1).remove(0);
        let mut server = data_dir.start(&StartOptions::default());
        let operator = server.operator_token();
        let make = |path: &str, body: Value| {
            let made = server
                .client()
                .send(&BlockingRequest::post(path, &body).bearer(&operator).with_new_key())
                .expect("the server answers")
                .expect(201);
            made.body
        };
        let product = |price: i64, stock: i64, policy: &str| {
            let made = make("/v1/products", json!({"name": "Umbrella", "price": price, "stock": stock, "stock_policy": policy}));
            made["options"][0]["sku"].as_str().expect("the product has an option").to_owned()
        };
        let goods = ScenarioGoods {
            reserved: product(10_000, 1_000, "reserve_on_order"),
            taken_at_payment: product(7_000, 1_000, "deduct_on_payment"),
            last_unit: product(7_000, 1, "deduct_on_payment"),
            expensive: product(100_000_000, 10, "reserve_on_order"),
        };
        let coupon = make(
            "/v1/coupons",
            json!({"name": "Autumn", "kind": "unlimited", "scope": "order", "discount": {"type": "amount", "won": 1_000}, "per_member": 100,
                   "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z"}),
        );
        let coupon = coupon["id"].as_str().expect("the coupon has an id").to_owned();
        server.terminate();
        let status = server.wait_for_exit(TIME_LIMIT).expect("the server stops");
        assert!(status.success(), "{status:?}");
        PreparedMall { data_dir, operator, shopper, goods, coupon }
    }

    fn token(&self) -> &str {
        &self.shopper.token
    }
}
