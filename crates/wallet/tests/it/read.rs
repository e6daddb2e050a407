use super::{Member, app, new_order};

// B1: an account that was never touched has nothing, and says so.
#[tokio::test]
async fn a_new_member_has_nothing() {
    let app = app().await;
    assert_eq!(Member::new(&app).purse(&app).await, (0, 0, 0));
}

// A14: a wallet is only ever the caller's own; without a token there is none.
#[tokio::test]
async fn everyone_sees_the_own_wallet_only() {
    let app = app().await;
    let rich = Member::with(&app, 5_000, 70).await;
    assert_eq!(rich.purse(&app).await, (5_000, 70, 0));
    assert_eq!(Member::new(&app).purse(&app).await, (0, 0, 0));
    let _ = app.get("/v1/wallet").send().await.expect_problem(401, "unauthenticated");
}

// B4: held points are shown apart and cannot be used.
#[tokio::test]
async fn held_points_are_shown_apart() {
    let app = app().await;
    let member = Member::with(&app, 0, 100).await;
    let order = new_order();
    app.emit("orders", order, member.hold(order, 30)).await;
    assert_eq!(member.purse(&app).await, (0, 70, 30));
}
