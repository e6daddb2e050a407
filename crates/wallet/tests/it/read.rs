use super::{Member, app, new_order};

// B1: an unused account has a balance of 0.
#[tokio::test]
async fn a_new_member_has_nothing() {
    let app = app().await;
    assert_eq!(Member::new(&app).balances(&app).await, (0, 0, 0));
}

// A14: a caller sees only its own wallet, and needs a token.
#[tokio::test]
async fn members_see_only_their_own_wallet() {
    let app = app().await;
    let rich = Member::with(&app, 5_000, 70).await;
    assert_eq!(rich.balances(&app).await, (5_000, 70, 0));
    assert_eq!(Member::new(&app).balances(&app).await, (0, 0, 0));
    let _ = app.get("/v1/wallet").send().await.expect_problem(401, "unauthenticated");
}

// B4: held points are shown separately and cannot be used.
#[tokio::test]
async fn held_points_are_shown_separately() {
    let app = app().await;
    let member = Member::with(&app, 0, 100).await;
    let order = new_order();
    app.emit("orders", order, member.hold(order, 30)).await;
    assert_eq!(member.balances(&app).await, (0, 70, 30));
}
