//! Rows 47 to 52: impossible definitions, unusable coupons, and claims without success.

use super::{Case, World, refused, scenario};
use crate::mall::{Mall, count_answers, paid_order, send_all, tally, text, with_field};
use kit::ports::new_id;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

pub async fn cases(world: &World) -> Vec<Case<'_>> {
    let mut cases = impossible(world);
    cases.extend(unusable(world).await);
    cases.extend(taken(world).await);
    cases.push(scenario("row 48: expired", expired()));
    cases.push(scenario("row 49: guessing finds nothing", guesses(world)));
    cases.push(scenario("row 51: 64 claims for one", one_of_sixty_four()));
    cases.push(scenario("row 52: one coupon in five orders", one_of_five()));
    cases
}

fn impossible(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let rate = |basis_points: i64| json!({"discount": {"type": "rate", "basis_points": basis_points}});
    let amount = |won: i64| json!({"discount": {"type": "amount", "won": won}});
    [
        ("101 %", rate(10_100)),
        ("0 %", rate(0)),
        ("-5 %", rate(-500)),
        ("-5 won", amount(-5)),
        ("0 won", amount(0)),
        ("a negative cap", json!({"discount": {"type": "rate", "basis_points": 500, "max_won": -1}})),
        ("quantity -1", json!({"quantity": -1})),
        ("quantity 0", json!({"quantity": 0})),
        ("no quantity", json!({"quantity": null})),
        ("a quantity of what is unlimited", json!({"kind": "unlimited"})),
        ("closes before it opens", json!({"issue_from": mall.at(100), "issue_until": mall.at(50)})),
        ("closes when it opens", json!({"issue_from": mall.at(100), "issue_until": mall.at(100)})),
        ("ends before it begins", json!({"valid_from": mall.at(100), "valid_until": mall.at(50)})),
        ("no end", json!({"valid_until": null})),
        ("nothing per member", json!({"per_member": 0})),
        ("a negative least order", json!({"min_order": -1})),
        ("no such scope", json!({"scope": "mall"})),
    ]
    .map(|(name, changes)| {
        refused(format!("row 47: {name}"), mall.post(&mall.operator, "/v1/coupons", &mall.coupon_body(changes)), 422, "invalid-field")
    })
    .into()
}

async fn unusable(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let claimed = async |changes: Value| {
        let coupon = mall.coupon(changes).await;
        mall.claim_issued(&world.buyer, &coupon).await
    };
    let order = |coupon: &str| world.order(&json!({"items": [{"sku": world.sku, "quantity": 1}], "coupons": [coupon]}));
    let used = claimed(json!({})).await;
    let _ = mall.order_in_state(&world.buyer, &with_field(paid_order(&world.sku), "coupons", json!([used])), "PAID").await;
    let early = claimed(json!({"valid_from": mall.at(3_000)})).await;
    let elsewhere = mall.shop().await;
    let foreign_store = claimed(json!({"scope": "store", "store_id": elsewhere.id})).await;
    let dear = claimed(json!({"min_order": 10_001})).await;
    let line = claimed(json!({"scope": "item"})).await;
    let on_line = json!({"items": [{"sku": world.sku, "quantity": 1, "issued_coupon_id": world.issued}]});
    vec![
        refused("row 48: used", order(&used), 409, "coupon-used"),
        refused("row 48: not begun", order(&early), 409, "coupon-not-started"),
        refused("row 48: for another store", order(&foreign_store), 422, "coupon-not-applicable"),
        refused("row 48: for larger orders", order(&dear), 422, "coupon-not-applicable"),
        refused("row 48: for a line, on the order", order(&line), 422, "coupon-not-applicable"),
        refused("row 48: for the order, on a line", world.order(&on_line), 422, "coupon-not-applicable"),
    ]
}

async fn taken(world: &World) -> Vec<Case<'_>> {
    let mall = &world.mall;
    let single = mall.coupon(json!({"quantity": 1})).await;
    let _ = mall.claim_issued(&world.buyer, &single).await;
    let upcoming = mall.coupon(json!({"issue_from": mall.at(60)})).await;
    let over = mall.coupon(json!({"issue_from": mall.at(-60), "issue_until": mall.at(-30)})).await;
    vec![
        refused("row 50: none is left", mall.claim(&world.other, &single), 409, "sold-out"),
        refused("row 50: the second of one member", mall.claim(&world.buyer, &single), 409, "already-issued"),
        refused("row 50: not open yet", mall.claim(&world.other, &upcoming), 409, "not-open"),
        refused("row 50: not open any more", mall.claim(&world.other, &over), 409, "closed"),
        refused("row 50: no such coupon", mall.claim(&world.other, &new_id().to_string()), 404, "not-found"),
        refused("row 50: below what is issued", lower(world, &single), 422, "invalid-field"),
    ]
}

fn lower(world: &World, coupon: &str) -> testkit::TestRequest {
    world.mall.app.patch(format!("/v1/coupons/{coupon}")).bearer(&world.mall.operator.token).json(&json!({"quantity": 0}))
}

async fn expired() {
    let mall = Mall::open().await;
    let sku = mall.product(10_000, 5).await;
    let coupon = mall.coupon(json!({"valid_until": mall.at(600)})).await;
    let shopper = mall.shopper(50_000, 0).await;
    let issued = mall.claim_issued(&shopper, &coupon).await;
    let body = with_field(paid_order(&sku), "coupons", json!([issued]));
    mall.app.clock.advance(Duration::from_secs(600));
    let _ = mall.order(&shopper, &body).send().await.expect_problem(409, "coupon-expired");
    mall.app.job("coupons.expire").await;
    let _ = mall.order(&shopper, &body).send().await.expect_problem(409, "coupon-expired");
    mall.finish().await;
}

/// The id of an issued coupon has 128 bits, at least 62 of them random, and only its owner can use it. A right guess gets the same answer
/// as a wrong one.
async fn guesses(world: &World) {
    let mut answers = BTreeSet::new();
    let mut guesses: Vec<String> = (0..20).map(|_| new_id().to_string()).collect();
    guesses.push(world.foreign.clone());
    for guess in guesses {
        let answer = world.order(&json!({"items": [{"sku": world.sku, "quantity": 1}], "coupons": [guess]})).send().await;
        answers.insert((answer.status, answer.problem().to_owned(), text(&answer.body["detail"])));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers.first().map(|(status, problem, _)| (*status, problem.as_str())), Some((422, "coupon-not-usable")));
}

async fn one_of_sixty_four() {
    let mall = Mall::open().await;
    let coupon = mall.coupon(json!({"quantity": 1})).await;
    let members = mall.members(64).await;
    let answers = send_all(64, members.iter().map(|member| mall.claim(member, &coupon)).collect()).await;
    assert_eq!((count_answers(&answers, 201, ""), count_answers(&answers, 409, "sold-out")), (1, 63), "{:?}", tally(&answers));
    mall.finish().await;
}

async fn one_of_five() {
    let mall = Mall::open().await;
    let sku = mall.product(5_000, 50).await;
    let coupon = mall.coupon(json!({})).await;
    let shopper = mall.shopper(100_000, 0).await;
    let issued = mall.claim_issued(&shopper, &coupon).await;
    let body = with_field(paid_order(&sku), "coupons", json!([issued]));
    let answers = send_all(5, (0..5).map(|_| mall.order(&shopper, &body)).collect()).await;
    assert_eq!((count_answers(&answers, 201, ""), count_answers(&answers, 409, "coupon-used")), (1, 4), "{:?}", tally(&answers));
    mall.finish().await;
}
