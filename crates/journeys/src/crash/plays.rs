//! What is played until the process dies. Together the plays pass every point.

use super::actor::Actor;
use crate::{
    client::{PATIENCE, Request},
    process::{Member, Place, Start},
};
use serde_json::{Value, json};

/// A furnished mall that nobody runs: each play gets a copy.
pub struct Mall {
    pub place: Place,
    operator: String,
    shopper: Member,
    /// Reserved at order, taken at payment, the last one of its kind, dearer than any wallet is full.
    goods: Goods,
    coupon: String,
}

struct Goods {
    plain: String,
    late: String,
    last: String,
    dear: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Play {
    /// Claim, order with everything, pay at once, cancel.
    Everything,
    /// The money does not suffice: all that was held goes back.
    Unpayable,
    OutOfStock,
    NoPoints,
    /// Two have ordered the last one; it goes to who pays first.
    LastOne,
    /// Two orders with one coupon at once; which one is refused, and how early, is not known beforehand.
    SameCoupon,
    PaidLater,
    Confirmed,
    /// The provider takes the money and gives it back.
    Provider,
    /// The provider does not answer, and the buyer does not wait for it.
    SlowProvider,
    Expired,
    Cart,
    Money,
}

impl Play {
    pub const ALL: &[Play] = &[
        Play::Everything,
        Play::Unpayable,
        Play::OutOfStock,
        Play::NoPoints,
        Play::LastOne,
        Play::SameCoupon,
        Play::PaidLater,
        Play::Confirmed,
        Play::Provider,
        Play::SlowProvider,
        Play::Expired,
        Play::Cart,
        Play::Money,
    ];

    pub fn start(self, hop_by_hop: bool, choreographed: bool) -> Start {
        Start { hop_by_hop, choreographed, unpaid_seconds: (self == Play::Expired).then_some(1), ..Start::default() }
    }

    /// Whether it always ends in the same way.
    pub fn is_certain(self) -> bool {
        self != Play::SameCoupon
    }

    pub fn play(self, mall: &Mall, actor: &mut Actor<'_>) {
        match self {
            Play::Everything => everything(mall, actor),
            Play::Unpayable => {
                let issued = claim(mall, actor);
                actor.order(
                    mall.token(),
                    &json!({"items": [item(&mall.goods.dear, 1)], "coupons": [issued], "points": 500, "payment": wallet()}),
                );
            }
            Play::OutOfStock => {
                actor.order(mall.token(), &json!({"items": [item(&mall.goods.last, 2)], "payment": wallet()}));
            }
            Play::NoPoints => {
                actor.order(mall.token(), &json!({"items": [item(&mall.goods.dear, 1)], "points": 100_001, "payment": wallet()}));
            }
            Play::LastOne => last_one(mall, actor),
            Play::SameCoupon => same_coupon(mall, actor),
            Play::PaidLater => {
                let order = actor.order(mall.token(), &json!({"items": [item(&mall.goods.late, 1)]}));
                pay(mall, actor, &order);
            }
            Play::Confirmed => confirmed(mall, actor),
            Play::Provider => {
                let payment = json!({"method": "test", "token": "approve"});
                let order = actor.order(mall.token(), &json!({"items": [item(&mall.goods.plain, 1)], "payment": payment}));
                cancel(mall, actor, &order);
            }
            Play::SlowProvider => {
                let payment = json!({"method": "test", "token": "timeout_after_charge"});
                let body = json!({"items": [item(&mall.goods.plain, 1)], "payment": payment});
                let answer = actor.act(Request::post("/v1/orders", &body).bearer(mall.token()).once().wait_for(1));
                actor.knows(mall.token(), &answer);
            }
            Play::Expired => {
                actor.order(mall.token(), &json!({"items": [item(&mall.goods.plain, 1)]}));
            }
            Play::Cart => cart(mall, actor),
            Play::Money => money(mall, actor),
        }
    }
}

/// The play in which an operation happens.
pub fn of_operation(name: &str) -> Option<Play> {
    Some(match name {
        "coupons.claim" | "orders.create" | "orders.cancel" => Play::Everything,
        "orders.pay" => Play::PaidLater,
        "orders.advance" | "orders.confirm" => Play::Confirmed,
        "orders.fall_due" => Play::Expired,
        "orders.settle_answer" => Play::SlowProvider,
        "payments.settle" | "payments.settle_refund" => Play::Provider,
        "orders.add_cart_item" | "orders.set_cart_item" | "orders.remove_cart_item" => Play::Cart,
        "wallet.charge" | "wallet.grant" => Play::Money,
        _ => return None,
    })
}

/// The play that comes to a hop if it is repeated long enough.
pub fn of_hop(name: &str) -> Option<Play> {
    (name == "orders.coupon.refused").then_some(Play::SameCoupon)
}

fn wallet() -> Value {
    json!({"method": "wallet"})
}

fn item(sku: &str, quantity: u32) -> Value {
    json!({"sku": sku, "quantity": quantity})
}

fn claim(mall: &Mall, actor: &mut Actor<'_>) -> String {
    let request = Request::post(format!("/v1/coupons/{}/claims", mall.coupon), &json!({})).bearer(mall.token()).once();
    let claimed = actor.act(request).expect(201);
    claimed.body["issued_coupon_id"].as_str().expect("it was issued").to_owned()
}

fn pay(mall: &Mall, actor: &mut Actor<'_>, order: &str) {
    actor.act(Request::post(format!("/v1/orders/{order}/payments"), &wallet()).bearer(mall.token()).once().wait());
}

fn cancel(mall: &Mall, actor: &mut Actor<'_>, order: &str) {
    actor.act(Request::post(format!("/v1/orders/{order}/cancellation"), &json!({})).bearer(mall.token()).once().wait());
}

fn everything(mall: &Mall, actor: &mut Actor<'_>) {
    let issued = claim(mall, actor);
    let items = [item(&mall.goods.plain, 2), item(&mall.goods.late, 1)];
    let order = actor.order(mall.token(), &json!({"items": items, "coupons": [issued], "points": 500, "payment": wallet()}));
    cancel(mall, actor, &order);
}

fn last_one(mall: &Mall, actor: &mut Actor<'_>) {
    let body = json!({"items": [item(&mall.goods.last, 1)]});
    let orders = [actor.order(mall.token(), &body), actor.order(mall.token(), &body)];
    for order in orders {
        pay(mall, actor, &order);
    }
}

fn same_coupon(mall: &Mall, actor: &mut Actor<'_>) {
    for _ in 0..40 {
        if actor.deaths > 0 {
            return;
        }
        let issued = claim(mall, actor);
        let body = json!({"items": [item(&mall.goods.plain, 1)], "coupons": [issued], "payment": wallet()});
        let requests = [(); 2].map(|()| Request::post("/v1/orders", &body).bearer(mall.token()).once().wait());
        let (mut first, mut second) = (actor.server().client(), actor.server().client());
        std::thread::scope(|scope| {
            // What is lost here is asked again below.
            scope.spawn(|| first.send(&requests[0]));
            scope.spawn(|| second.send(&requests[1]));
        });
        for request in requests {
            let answer = actor.act(request);
            // Refused at the door, the coupon was held already: there is no order.
            if answer.body["id"].is_string() || answer.body["order_id"].is_string() {
                actor.knows(mall.token(), &answer);
            }
        }
    }
}

fn confirmed(mall: &Mall, actor: &mut Actor<'_>) {
    let order = actor.order(mall.token(), &json!({"items": [item(&mall.goods.plain, 1)], "payment": wallet()}));
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        actor.act(Request::post(format!("/v1/orders/{order}/fulfilment"), &json!({"state": state})).bearer(&mall.operator).once());
    }
    actor.act(Request::post(format!("/v1/orders/{order}/confirmation"), &json!({})).bearer(mall.token()).once());
}

fn cart(mall: &Mall, actor: &mut Actor<'_>) {
    let path = |sku: &str| format!("/v1/cart/items/{sku}");
    for sku in [&mall.goods.plain, &mall.goods.late] {
        actor.act(Request::post("/v1/cart/items", &item(sku, 1)).bearer(mall.token()).once());
    }
    actor.act(Request::put(path(&mall.goods.plain), &json!({"quantity": 2})).bearer(mall.token()).once());
    actor.act(Request::delete(path(&mall.goods.late)).bearer(mall.token()).once());
    actor.order(mall.token(), &json!({"from_cart": true, "payment": wallet()}));
}

fn money(mall: &Mall, actor: &mut Actor<'_>) {
    actor.act(Request::post("/v1/wallet/charges", &json!({"amount": 5_000})).bearer(mall.token()).once());
    let grant = json!({"member_id": mall.shopper.id, "amount": 700, "reason": "sorry"});
    actor.act(Request::post("/v1/wallet/grants", &grant).bearer(&mall.operator).once());
}

impl Mall {
    /// Furnishes a mall in an empty place.
    pub fn furnished(place: Place) -> Mall {
        let shopper = place.seed(1).remove(0);
        let mut server = place.start(&Start::default());
        let operator = server.operator();
        let make = |path: &str, body: Value| {
            let made = server.client().send(&Request::post(path, &body).bearer(&operator).once()).expect("it answers").expect(201);
            made.body
        };
        let product = |price: i64, stock: i64, policy: &str| {
            let made = make("/v1/products", json!({"name": "Umbrella", "price": price, "stock": stock, "stock_policy": policy}));
            made["options"][0]["sku"].as_str().expect("it has an option").to_owned()
        };
        let goods = Goods {
            plain: product(10_000, 1_000, "reserve_on_order"),
            late: product(7_000, 1_000, "deduct_on_payment"),
            last: product(7_000, 1, "deduct_on_payment"),
            dear: product(100_000_000, 10, "reserve_on_order"),
        };
        let coupon = make(
            "/v1/coupons",
            json!({"name": "Autumn", "kind": "unlimited", "scope": "order", "discount": {"type": "amount", "won": 1_000}, "per_member": 100,
                   "issue_from": "2020-01-01T00:00:00Z", "issue_until": "2100-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z"}),
        );
        let coupon = coupon["id"].as_str().expect("it has an id").to_owned();
        server.terminate();
        let status = server.ended(PATIENCE).expect("it stops");
        assert!(status.success(), "{status:?}");
        Mall { place, operator, shopper, goods, coupon }
    }

    fn token(&self) -> &str {
        &self.shopper.token
    }
}
