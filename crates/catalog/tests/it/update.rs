//! `catalog.update`

use crate::world::{World, id, names, skus};
use contracts::{MemberId, Message, ProductId};
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// P1
#[tokio::test]
async fn a_change_is_visible_at_once() {
    let world = World::new().await;
    let (of, sku) = world.product("Rose", 1_000, 5).await;
    let before = world.detail(of).await;
    let changed = world.change(of, &json!({"name": "Red rose", "price": 1_500, "description": "fresh"})).await.expect(200).body;
    assert_eq!((&changed["name"], &changed["price"], &changed["version"]), (&json!("Red rose"), &json!(1_500), &json!(2)));
    let after = world.detail(of).await;
    assert_eq!((&before["price"], &after["price"], &after["description"]), (&json!(1_000), &json!(1_500), &json!("fresh")));
    assert_eq!((names(&world.list("?q=red").await), world.prices(&[sku]).await[0].price.0), (vec!["Red rose"], 1_500));
    let untouched = world.change(of, &json!({})).await.expect(200).body;
    assert_eq!((&untouched["name"], &untouched["options"]), (&json!("Red rose"), &changed["options"]));
}

// D1
#[tokio::test]
async fn a_change_of_nothing_leaves_the_version() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let first = world.change(of, &json!({"price": 1_500})).await.expect(200).body;
    for nothing in [json!({}), json!({"price": 1_500, "name": "Rose", "state": "on_sale", "max_unpaid_per_member": null})] {
        assert_eq!(world.change(of, &nothing).await.expect(200).body, first, "{nothing}");
    }
    let without_body = world.app.patch(format!("/v1/products/{of}")).bearer(&world.operator()).send().await;
    let _ = without_body.expect_problem(400, "malformed-json");
    assert_eq!(world.detail(of).await["version"], 2);
}

// H4
#[tokio::test]
async fn the_limit_on_unpaid_units_is_set_changed_and_removed() {
    let world = World::new().await;
    let body = json!({"name": "Rose", "price": 1_000, "stock": 5, "max_unpaid_per_member": 2});
    let created = world.create(&body).await.expect(201).body;
    let (of, sku) = (id(&created), skus(&created)[0]);
    assert_eq!((&created["max_unpaid_per_member"], world.prices(&[sku]).await[0].max_unpaid), (&json!(2), Some(2)));
    for (change, most) in [
        (json!({"max_unpaid_per_member": 0}), Some(0)),
        (json!({"name": "Tulip"}), Some(0)),
        (json!({"max_unpaid_per_member": null}), None),
    ] {
        assert_eq!(world.change(of, &change).await.expect(200).body["max_unpaid_per_member"], json!(most), "{change}");
        assert_eq!(world.prices(&[sku]).await[0].max_unpaid, most, "{change}");
        assert_eq!(world.detail(of).await["max_unpaid_per_member"], json!(most), "{change}");
    }
    for wrong in [-1, 1_000_001] {
        let _ = world.change(of, &json!({"max_unpaid_per_member": wrong})).await.expect_problem(422, "invalid-field");
    }
}

// P1
#[tokio::test]
async fn a_paused_product_is_shown_and_not_sold() {
    let world = World::new().await;
    let (of, sku) = world.product("Rose", 1_000, 5).await;
    assert_eq!(world.change(of, &json!({"state": "paused"})).await.expect(200).body["state"], "paused");
    assert_eq!(
        (world.detail(of).await["state"].clone(), world.prices(&[sku]).await, names(&world.list("").await).len()),
        (json!("paused"), vec![], 0)
    );
    let _ = world.change(of, &json!({"state": "on_sale"})).await.expect(200);
    assert_eq!((world.prices(&[sku]).await.len(), names(&world.list("").await)), (1, vec!["Rose"]));
}

// P5 S4
#[tokio::test]
async fn options_are_added_and_removed() {
    let world = World::new().await;
    let created =
        world.create(&json!({"name": "Shirt", "price": 10_000, "options": [{"name": "S", "stock": 1}, {"name": "M", "stock": 2}]})).await;
    let created = created.expect(201).body;
    let (of, old) = (id(&created), skus(&created));
    let change = json!({"add_options": [{"name": "S", "price_delta": 500, "stock": 9}], "remove_options": [old[0]]});
    let changed = world.change(of, &change).await.expect(200).body;
    let new = skus(&changed);
    assert_eq!((new.len(), new[0]), (2, old[1]));
    let Some((_, Message::SkusListed(listed))) = world.app.messages("catalog").await.pop() else { panic!("a message") };
    assert_eq!((listed.skus.len(), listed.skus[0].sku, listed.skus[0].stock), (1, new[1], 9));
    let detail = world.detail(of).await;
    assert_eq!((skus(&detail), &detail["available"]), (new.clone(), &json!(11)));
    let priced = world.prices(&[old[0], new[1]]).await;
    assert_eq!((priced.len(), priced[0].price.0, priced[0].name.as_str()), (1, 10_500, "Shirt / S"));
}

// P5 row 43
#[tokio::test]
async fn an_invalid_change_is_refused_whole() {
    let world = World::new().await;
    let created =
        world.create(&json!({"name": "Shirt", "price": 10_000, "options": [{"name": "S", "price_delta": -9_000}]})).await.expect(201).body;
    let (of, sku) = (id(&created), skus(&created)[0]);
    let cases = [
        (json!({"price": 8_999}), "amount-out-of-range", "/price"),
        (json!({"name": "Other", "add_options": [{"name": "S"}]}), "invalid-field", "/add_options/0/name"),
        (
            json!({"add_options": [{"name": "M"}, {"name": "L", "price_delta": 1_000_000_000}]}),
            "amount-out-of-range",
            "/add_options/1/price_delta",
        ),
        (json!({"remove_options": [sku]}), "invalid-field", "/remove_options"),
        (json!({"remove_options": [new_id()]}), "invalid-field", "/remove_options/0"),
    ];
    for (change, slug, pointer) in cases {
        let refused = world.change(of, &change).await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{change}");
        assert!(refused.body["trace_id"].is_string());
    }
    let mut detail = world.detail(of).await;
    let options = detail["options"].take();
    assert_eq!((&detail["name"], &detail["version"], options.as_array().map(Vec::len)), (&json!("Shirt"), &json!(1), Some(1)));
    assert_eq!(world.app.messages("catalog").await.len(), 1);
}

// P1 row 40
#[tokio::test]
async fn sellers_change_only_in_their_own_store() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let patch =
        |of: ProductId, token: String| world.app.patch(format!("/v1/products/{of}")).bearer(&token).json(&json!({"price": 1})).send();
    let _ = patch(of, world.app.token(MemberId(new_id()), Role::Seller)).await.expect_problem(404, "not-found");
    let _ = patch(of, world.app.token(world.seller_id, Role::Customer)).await.expect_problem(403, "forbidden");
    let _ = patch(ProductId(new_id()), world.operator()).await.expect_problem(404, "not-found");
    let _ = world.app.patch(format!("/v1/products/{of}")).json(&json!({"price": 1})).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.detail(of).await["price"], 1_000);
    assert_eq!(patch(of, world.operator()).await.expect(200).body["price"], 1);
}

// P1
#[tokio::test]
async fn simultaneous_changes_are_all_kept() {
    let world = World::new().await;
    let (of, _) = world.product("Rose", 1_000, 5).await;
    let adding = (0..20).map(|n| {
        let change = json!({"add_options": [{"name": format!("no {n}"), "stock": n}]});
        let world = &world;
        async move { world.change(of, &change).await.status }
    });
    assert_eq!(futures::future::join_all(adding).await, [200; 20]);
    let detail = world.detail(of).await;
    assert_eq!((skus(&detail).len(), &detail["version"], &detail["available"]), (21, &json!(21), &json!(195)));
}
