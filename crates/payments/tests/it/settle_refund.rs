//! F30: what was captured for an order that is undone goes back, whenever that turns out and however the provider behaves.

use super::{Purchase, app, audit, provider_rows};
use contracts::{
    Message,
    messages::{PaymentMethod, StepCommand},
};

// I-O6, F30: undone orders get their money back at the provider, also when the refund fails at first.
#[tokio::test]
async fn refunds_arrive() {
    for token in ["approve", "refund_fails_once"] {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        purchase.pay(&app, PaymentMethod::Test, Some(token)).await;
        purchase.comes_to(&app, "APPROVED").await;
        purchase.cancel(&app).await;
        purchase.comes_to(&app, "CANCELLED").await;
        assert_eq!(purchase.told(&app).await, ["payment.approved", "payment.cancelled"]);
        assert_eq!(provider_rows::<(i64, i64)>(&app, "select amount, refunded from psp_charges").await, [(7_000, 7_000)]);
        audit(&app).await;
    }
}

// An order that is undone while the outcome is unknown: first found out, then given back. What was never charged is not charged any more.
#[tokio::test]
async fn an_undo_in_doubt_leaves_nothing() {
    for (token, state, captured) in
        [("timeout_after_charge", "CANCELLED", 1), ("timeout_before_charge", "FAILED", 0), ("slow", "CANCELLED", 1)]
    {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        let cancel = Message::PaymentCancel(StepCommand { order_id: purchase.order_id });
        app.emit_all("orders", purchase.order_id, vec![purchase.request(PaymentMethod::Test, Some(token)), cancel]).await;
        purchase.comes_to(&app, state).await;
        assert_eq!(purchase.told(&app).await, ["payment.cancelled"], "{token}");
        let kept = provider_rows::<(i64, i64)>(
            &app,
            "select count(*), CAST(coalesce(sum(amount-refunded),0) AS BIGINT) from psp_charges where captured",
        )
        .await;
        assert_eq!(kept, [(captured, 0)], "{token}");
        audit(&app).await;
    }
}
