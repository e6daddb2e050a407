//! `catalog.create`

use crate::world::{World, id, skus};
use contracts::{MemberId, Message, StoreId, ids::MALL_STORE, messages::StockPolicy};
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// P1 P5 S4
#[tokio::test]
async fn each_option_has_its_price_and_stock() {
    let world = World::new().await;
    let body = json!({
        "name": "Merlot", "description": "red\ndry", "price": 20_000, "stock_policy": "deduct_on_payment",
        "options": [{"name": "750 ml", "stock": 12}, {"name": "375 ml", "price_delta": -8_000, "stock": 3}, {"name": "magnum", "price_delta": 25_000}],
    });
    let answer = world.create(&body).await.expect(201);
    let (of, options) = (id(&answer.body), skus(&answer.body));
    assert_eq!(answer.headers["location"], format!("/v1/products/{of}"));
    assert_eq!(
        answer.body,
        json!({
            "id": of, "store_id": world.store_id, "name": "Merlot", "description": "red\ndry", "price": 20_000,
            "stock_policy": "deduct_on_payment", "max_unpaid_per_member": null, "state": "on_sale", "created_at": world.app.clock_now(), "version": 1,
            "options": [
                {"sku": options[0], "name": "750 ml", "price_delta": 0, "price": 20_000},
                {"sku": options[1], "name": "375 ml", "price_delta": -8_000, "price": 12_000},
                {"sku": options[2], "name": "magnum", "price_delta": 25_000, "price": 45_000},
            ],
        })
    );
    let [(key, Message::SkusListed(listed))] = &world.app.messages("catalog").await[..] else { panic!("one message") };
    assert_eq!((*key, listed.product_id, listed.store_id, listed.policy), (of.0, of, world.store_id, StockPolicy::DeductOnPayment));
    let stock: Vec<_> = listed.skus.iter().map(|listed| (listed.sku, listed.stock)).collect();
    assert_eq!(stock, [(options[0], 12), (options[1], 3), (options[2], 0)]);
    let detail = world.detail(of).await;
    assert_eq!((&detail["available"], &detail["options"][1]["available"]), (&json!(15), &json!(3)));
}

// P5
#[tokio::test]
async fn a_product_without_options_gets_one() {
    let world = World::new().await;
    let created = world.create(&json!({"name": "Rose", "price": 0, "stock": 7})).await.expect(201).body;
    assert_eq!(
        (&created["options"][0]["name"], skus(&created).len(), &created["stock_policy"]),
        (&json!("default"), 1, &json!("reserve_on_order"))
    );
    assert_eq!(world.detail(id(&created)).await["available"], 7);
    let none = world.create(&json!({"name": "Tulip", "price": 100})).await.expect(201).body;
    assert_eq!(world.detail(id(&none)).await["available"], 0);
}

// P5
#[tokio::test]
async fn a_price_with_a_fraction_is_refused() {
    let world = World::new().await;
    for body in
        [json!({"name": "Rose", "price": 100.5}), json!({"name": "Rose", "price": 100, "options": [{"name": "large", "price_delta": 0.5}]})]
    {
        let _ = world.create(&body).await.expect_problem(422, "invalid-amount");
    }
    assert_eq!(world.app.sql_i64("select count(*) from catalog_products").await, 0);
}

// P1 rows 37, 40
#[tokio::test]
async fn sellers_use_their_own_stores_and_operators_any() {
    let world = World::new().await;
    let post = |token: String, store_id: Option<StoreId>| {
        let mut body = json!({"name": "Rose", "price": 100});
        if let Some(store_id) = store_id {
            body["store_id"] = json!(store_id);
        }
        world.app.post("/v1/products").bearer(&token).json(&body).send()
    };
    let other_id = MemberId(new_id());
    let other = || world.app.token(other_id, Role::Seller);
    assert_eq!(post(world.seller(), Some(world.store_id)).await.expect(201).body["store_id"], json!(world.store_id));
    assert_eq!(post(world.operator(), Some(world.store_id)).await.expect(201).body["store_id"], json!(world.store_id));
    assert_eq!(post(world.operator(), None).await.expect(201).body["store_id"], json!(MALL_STORE));
    let _ = post(other(), Some(world.store_id)).await.expect_problem(404, "not-found");
    let _ = post(world.seller(), Some(MALL_STORE)).await.expect_problem(404, "not-found");
    let _ = post(world.operator(), Some(StoreId(new_id()))).await.expect_problem(404, "not-found");
    let none = post(other(), None).await.expect_problem(422, "invalid-field");
    assert_eq!(none.body["errors"][0]["pointer"], "/store_id");
    let first = world.open_store(other_id);
    assert_eq!(post(other(), None).await.expect(201).body["store_id"], json!(first));
    let second = world.open_store(other_id);
    let _ = post(other(), None).await.expect_problem(422, "invalid-field");
    assert_eq!(post(other(), Some(second)).await.expect(201).body["store_id"], json!(second));
    let customer = world.app.token(MemberId(new_id()), Role::Customer);
    let _ = post(customer, None).await.expect_problem(403, "forbidden");
    let anonymous = world.app.post("/v1/products").json(&json!({"name": "Rose", "price": 1})).send().await;
    let _ = anonymous.expect_problem(401, "unauthenticated");
}

// row 60
#[tokio::test]
async fn a_repeat_with_the_same_key_creates_one_product() {
    let world = World::new().await;
    let post = || world.app.post("/v1/products").bearer(&world.seller()).key("new-1").json(&json!({"name": "Rose", "price": 100})).send();
    let (first, again) = (post().await.expect(201), post().await.expect(201));
    assert_eq!((&first.bytes, again.headers.get("idempotent-replayed").is_some()), (&again.bytes, true));
    assert_eq!(first.headers["location"], again.headers["location"]);
    assert_eq!(world.app.sql_i64("select count(*) from catalog_products").await, 1);
}

// R7: texts are stored trimmed and in one normal form, also the names of options.
#[tokio::test]
async fn texts_are_stored_in_one_form() {
    let world = World::new().await;
    let body = json!({"name": " cafe\u{301} ", "price": 1_000, "options": [{"name": " 750 ml "}, {"name": "\u{1100}\u{1161}\u{11b7}"}]});
    let made = world.create(&body).await.expect(201).body;
    assert_eq!((&made["name"], &made["options"][0]["name"], &made["options"][1]["name"]), (&json!("café"), &json!("750 ml"), &json!("감")));
    let twice = json!({"name": "Wine", "price": 1_000, "options": [{"name": "750 ml"}, {"name": "750 ML "}]});
    let refused = world.create(&twice).await.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"][0]["pointer"], "/options/1/name");
    // L5
    for hidden in ["\u{200b}", "\u{3164}", "Wine\u{2060}"] {
        let body = json!({"name": "Wine", "price": 1_000, "options": [{"name": hidden}]});
        let refused = world.create(&body).await.expect_problem(422, "invalid-field");
        assert_eq!(refused.body["errors"][0]["pointer"], "/options/0/name");
    }
}
