use super::{Purchase, app};
use contracts::{MemberId, Message, messages::PaymentMethod};
use kit::{auth::Role, ports::new_id};

// Y4, A14, row 37: the owner sees a payment and the reason of its failure. Others get `not-found`.
#[tokio::test]
async fn only_the_owner_sees_a_payment() {
    let app = app().await;
    let (paid, failed) = (Purchase::of(4_000), Purchase::of(500));
    paid.pay(&app, PaymentMethod::Wallet, None).await;
    let path = |purchase: &Purchase| format!("/v1/payments/{}", purchase.payment_id);
    let owner = app.token(paid.member_id, Role::Customer);
    let body = app.get(path(&paid)).bearer(&owner).send().await.expect(200).body;
    assert_eq!((body["state"].as_str(), body["captured_at"].as_str()), (Some("INTENT"), None));
    paid.wallet_answers(&app, Message::WalletDebited).await;
    let body = app.get(path(&paid)).bearer(&owner).send().await.expect(200).body;
    assert_eq!((body["state"].as_str(), body["amount"].as_i64(), body["method"].as_str()), (Some("APPROVED"), Some(4_000), Some("wallet")));
    assert_eq!((body["order_id"].as_str(), body["captured_at"].is_string()), (Some(paid.order_id.to_string().as_str()), true));

    failed.pay(&app, PaymentMethod::None, None).await;
    let token = app.token(failed.member_id, Role::Customer);
    let body = app.get(path(&failed)).bearer(&token).send().await.expect(200).body;
    assert_eq!((body["state"].as_str(), body["code"].as_str()), (Some("FAILED"), Some("payment-method-not-allowed")));

    let stranger = app.token(MemberId(new_id()), Role::Operator);
    let _ = app.get(path(&paid)).bearer(&stranger).send().await.expect_problem(404, "not-found");
    let _ = app.get(format!("/v1/payments/{}", new_id())).bearer(&owner).send().await.expect_problem(404, "not-found");
    let _ = app.get("/v1/payments/mine").bearer(&owner).send().await.expect_problem(404, "not-found");
    let _ = app.get(path(&paid)).send().await.expect_problem(401, "unauthenticated");
}
