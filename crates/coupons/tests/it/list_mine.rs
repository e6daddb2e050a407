use crate::support::*;
use serde_json::{Value, json};

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|coupon| coupon["name"].as_str().unwrap()).collect()
}

// C24
#[tokio::test]
async fn a_member_lists_own_coupons_by_state() {
    let mall = Mall::open().await;
    let me = member();
    let mut issued = Vec::new();
    for name in ["fresh", "held", "used", "returned", "stale"] {
        let coupon = mall.announce(json!({"name": name, "valid_days": if name == "stale" { 1 } else { 5 }})).await;
        issued.push(mall.get_one(coupon, me).await);
        if name == "returned" {
            let _ = mall.give_back(coupon, me).await.expect(204);
        }
    }
    for (coupon, used) in [(issued[1], false), (issued[2], true)] {
        let order = order();
        mall.hold(order, me, &[(coupon, 5_000, 1_000)]).await;
        if used {
            mall.use_up(order).await;
        }
    }
    mall.get_one(mall.announce(json!({"name": "foreign"})).await, member()).await;
    mall.app.clock.advance(DAY);
    assert_eq!(names(&mall.my_coupons(me, "").await), ["stale", "returned", "used", "held", "fresh"]);
    for marked in [false, true] {
        for (state, expected) in [("issued", "fresh"), ("held", "held"), ("used", "used"), ("cancelled", "returned"), ("expired", "stale")]
        {
            let page = mall.my_coupons(me, &format!("?state={state}")).await;
            assert_eq!((names(&page), &page["items"][0]["state"]), (vec![expected], &json!(state)), "marked: {marked}");
        }
        assert_eq!(mall.my_coupons(me, "").await["usable_count"], 1);
        mall.app.job("coupons.expire").await;
    }
}

// C15, C16: the minimum itself is enough, and each coupon has its discount
#[tokio::test]
async fn a_member_lists_coupons_usable_on_an_amount() {
    let mall = Mall::open().await;
    let me = member();
    let later = mall.now().after(HOUR);
    for (name, fields) in [
        ("from 5,000", json!({"min_order": 5_000})),
        ("half", json!({"discount": {"type": "rate", "basis_points": 5_000, "max_won": 2_000}})),
        ("tomorrow", json!({"valid_from": later})),
        ("today", json!({"valid_until": later, "issue_until": later})),
    ] {
        let mut fields = fields;
        fields["name"] = json!(name);
        mall.get_one(mall.announce(fields).await, me).await;
    }
    let usable = async |amount: i64| {
        let page = mall.my_coupons(me, &format!("?usable_for={amount}")).await;
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|item| (item["name"].as_str().unwrap().to_owned(), item["discount_won"].as_i64().unwrap())).collect::<Vec<_>>()
    };
    let owned = |pairs: &[(&str, i64)]| pairs.iter().map(|(name, won)| ((*name).to_owned(), *won)).collect::<Vec<_>>();
    assert_eq!(usable(4_999).await, owned(&[("today", 1_000), ("half", 2_000)]));
    assert_eq!(usable(5_000).await, owned(&[("today", 1_000), ("half", 2_000), ("from 5,000", 1_000)]));
    assert_eq!(usable(600).await, owned(&[("today", 600), ("half", 300)]));
    assert_eq!(mall.my_coupons(me, "").await["usable_count"], 3);
    mall.app.clock.advance(HOUR);
    assert_eq!(usable(600).await, owned(&[("tomorrow", 600), ("half", 300)]));
}

// C24
#[tokio::test]
async fn pages_hold_every_coupon_once() {
    let mall = Mall::open().await;
    let me = member();
    for number in 0..5 {
        mall.get_one(mall.announce(json!({"name": format!("no {number}")})).await, me).await;
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = mall.my_coupons(me, &query).await;
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Value::String(cursor) = &page["next_cursor"] else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["no 4", "no 3", "no 2", "no 1", "no 0"]);
}

// rows 18, 19 and 23 of the bad inputs
#[tokio::test]
async fn bad_requests_are_refused() {
    let mall = Mall::open().await;
    let shopper = mall.shopper(member());
    let get = |query: &str| mall.app.get(format!("/v1/me/coupons?{query}")).bearer(&shopper).send();
    for query in ["state=lost", "usable_for=-1", "usable_for=1.5", "limit=0"] {
        let _ = get(query).await.expect_problem(422, "invalid-parameter");
    }
    let foreign = mall.app.kit().cursors.encode("coupons.list", &member());
    let _ = get(&format!("cursor={foreign}")).await.expect_problem(400, "invalid-cursor");
    let _ = mall.app.get("/v1/me/coupons").send().await.expect_problem(401, "unauthenticated");
}
