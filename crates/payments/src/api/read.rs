//! `payments.read`: state of a payment. Its owner. Others get `not-found`.

use crate::{Payments, model::PaymentState, store};
use axum::Json;
use contracts::{Code, OrderId, PaymentId, Timestamp, Won, messages::PaymentMethod};
use kit::{
    extract::SignedIn,
    http::{Path, Problem, State},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentDetail {
    pub id: PaymentId,
    pub order_id: OrderId,
    pub method: PaymentMethod,
    pub amount: Won,
    /// INTENT: not answered yet. UNKNOWN: being reconciled with the provider. APPROVED, FAILED, CANCELLED.
    pub state: &'static str,
    /// Slug of the problem, for a failed payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Time of the capture. It stays after a refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<Timestamp>,
}

/// State of a payment
///
/// Its owner. Others get `not-found`.
#[utoipa::path(get, path = "/v1/payments/{id}", operation_id = "payments.read", tag = "payments",
    params(("id" = PaymentId, Path, description = "the payment")),
    responses((status = 200, body = PaymentDetail),
        (status = 401, description = "unauthenticated", body = kit::http::ProblemBody),
        (status = 404, description = "not-found", body = kit::http::ProblemBody)),
    security(("bearer" = [])))]
pub async fn read(
    State(payments): State<Arc<Payments>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<PaymentId>,
) -> Result<Json<PaymentDetail>, Problem> {
    let mut reader = payments.kit.db.reader().await?;
    let payment = store::payment(&mut reader, id).await?.filter(|payment| payment.member_id == caller.member_id).ok_or(Code::NotFound)?;
    let has_failed = payment.state == PaymentState::Failed;
    Ok(Json(PaymentDetail {
        id,
        order_id: payment.order_id,
        method: payment.method,
        amount: payment.amount,
        state: payment.state.as_str(),
        code: payment.code.filter(|_| has_failed).map(Code::slug),
        detail: payment.detail.filter(|_| has_failed),
        created_at: payment.created_at,
        updated_at: payment.updated_at,
        captured_at: payment.captured_at,
    }))
}
