use super::{Member, app, new_order, new_payment, step};
use contracts::Message;

// B3: every change is listed, newest first, and the changes sum to the balance.
#[tokio::test]
async fn the_history_adds_up_to_the_balance() {
    let app = app().await;
    let member = Member::with(&app, 10_000, 900).await;
    let (order, payment) = (new_order(), new_payment());
    app.emit("orders", order, member.hold(order, 300)).await;
    app.emit("payments", order, Message::WalletDebit(member.transfer(payment, order, 4_000))).await;
    app.emit("orders", order, Message::PointsUse(step(order))).await;
    for (account, balance, kinds) in [("cash", 6_000, ["pay", "charge"]), ("points", 600, ["use", "grant"])] {
        let path = format!("/v1/wallet/entries?account={account}");
        let body = app.get(path).bearer(&member.token).send().await.expect(200).body;
        let items = body["items"].as_array().expect("a list").clone();
        assert_eq!(items.iter().map(|item| item["kind"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        assert_eq!(items.iter().map(|item| item["amount"].as_i64().unwrap()).sum::<i64>(), balance);
        assert_eq!(items[0]["balance_after"].as_i64(), Some(balance));
        assert_eq!(items[0]["order_id"].as_str(), Some(order.to_string().as_str()));
        assert_eq!(body["next_cursor"], serde_json::Value::Null);
    }
}

// Pages join without gap or repeat, even if entries are added between them.
#[tokio::test]
async fn pages_join_without_gap_or_repeat() {
    let app = app().await;
    let member = Member::new(&app);
    for n in 1..=7 {
        let _ = member.charge(&app, &format!("k{n}"), n * 1_000).await.expect(201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/wallet/entries?limit=3".to_owned();
    loop {
        let body = app.get(path).bearer(&member.token).send().await.expect(200).body;
        seen.extend(body["items"].as_array().unwrap().iter().map(|item| item["amount"].as_i64().unwrap()));
        let _ = member.charge(&app, &format!("meanwhile{}", seen.len()), 50_000).await.expect(201);
        match body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/wallet/entries?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, [7_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000]);
}

// Row 19: a cursor works only for its member and account. Row 18: bad limits and unknown accounts are refused.
#[tokio::test]
async fn foreign_and_forged_cursors_are_refused() {
    let app = app().await;
    let (member, other) = (Member::with(&app, 3_000, 50).await, Member::with(&app, 3_000, 50).await);
    let _ = member.charge(&app, "more", 2_000).await.expect(201);
    let page = app.get("/v1/wallet/entries?limit=1").bearer(&member.token).send().await.expect(200).body;
    let cursor = page["next_cursor"].as_str().expect("there is more");
    let path = format!("/v1/wallet/entries?limit=1&cursor={cursor}");
    let _ = app.get(path.clone()).bearer(&member.token).send().await.expect(200);
    let _ = app.get(path.clone()).bearer(&other.token).send().await.expect_problem(400, "invalid-cursor");
    let _ = app.get(format!("{path}&account=points")).bearer(&member.token).send().await.expect_problem(400, "invalid-cursor");
    for bad in ["/v1/wallet/entries?cursor=AAAA", "/v1/wallet/entries?cursor=%27"] {
        let _ = app.get(bad).bearer(&member.token).send().await.expect_problem(400, "invalid-cursor");
    }
    for bad in ["limit=0", "limit=101", "limit=-1", "account=sales", "sort=amount"] {
        let _ = app.get(format!("/v1/wallet/entries?{bad}")).bearer(&member.token).send().await.expect_problem(422, "invalid-parameter");
    }
    let _ = app.get("/v1/wallet/entries").send().await.expect_problem(401, "unauthenticated");
}
