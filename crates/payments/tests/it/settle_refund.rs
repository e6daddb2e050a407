//! F30: money captured for an undone order is refunded, even when found out late and despite all provider faults.

use super::{Purchase, app, audit, provider_rows};
use contracts::{
    Message,
    messages::{PaymentMethod, StepCommand},
};

// I-O6, F30: undone orders are refunded at the provider, even when the refund fails at first.
#[tokio::test]
async fn a_failing_refund_is_retried() {
    for token in ["approve", "refund_fails_once"] {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        purchase.pay(&app, PaymentMethod::Test, Some(token)).await;
        purchase.wait_for_state(&app, "APPROVED").await;
        purchase.cancel(&app).await;
        purchase.wait_for_state(&app, "CANCELLED").await;
        assert_eq!(purchase.emitted(&app).await, ["payment.approved", "payment.cancelled"]);
        assert_eq!(provider_rows::<(i64, i64)>(&app, "select amount, refunded from psp_charges").await, [(7_000, 7_000)]);
        audit(&app).await;
    }
}

// An order is undone while the outcome is unknown: a charge is found and refunded, and a lost call is not repeated.
#[tokio::test]
async fn an_undo_with_unknown_outcome_keeps_no_money() {
    for (token, state, captured) in
        [("timeout_after_charge", "CANCELLED", 1), ("timeout_before_charge", "FAILED", 0), ("slow", "CANCELLED", 1)]
    {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        let cancel = Message::PaymentCancel(StepCommand { order_id: purchase.order_id });
        app.emit_all("orders", purchase.order_id, vec![purchase.request(PaymentMethod::Test, Some(token)), cancel]).await;
        purchase.wait_for_state(&app, state).await;
        assert_eq!(purchase.emitted(&app).await, ["payment.cancelled"], "{token}");
        let kept = provider_rows::<(i64, i64)>(
            &app,
            "select count(*), CAST(coalesce(sum(amount-refunded),0) AS BIGINT) from psp_charges where captured",
        )
        .await;
        assert_eq!(kept, [(captured, 0)], "{token}");
        audit(&app).await;
    }
}
