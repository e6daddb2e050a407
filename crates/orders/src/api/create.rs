//! `orders.create`: places an order and starts its checkout saga; with `payment`, goes on until it is paid. Any signed-in account, for itself.

use super::quote::{OrderRequest, Priced, price};
use crate::{
    Orders, SagaMode,
    carts::{self, Carts},
    model::{Checkout, Order, Payment, Quote, SagaState, State as OrderState, itinerary},
    touched::{self, Touched},
    view::OrderView,
    wait::{self, Wait},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{Code, MemberId, OrderId, PaymentId, Timestamp, messages::PaymentMethod};
use kit::{
    Answer, Command, Outcome, Work,
    auth::SignedIn,
    batch::Later,
    engine::Fault,
    http::{self, Input, Problem, ProblemBody, Trace},
    ports::new_id,
};
use serde_json::json;
use std::sync::Arc;

/// Places an order and starts its checkout saga; with `payment`, goes on until it is paid
///
/// Any signed-in account, for itself.
#[utoipa::path(post, path = "/v1/orders", operation_id = "orders.create", tag = "orders", request_body = OrderRequest,
    params(("Idempotency-Key" = String, Header, description = "Names the intention: a repeat gets the first answer"),
           ("Prefer" = Option<String>, Header, description = "`wait=<seconds>`: answer when the order rests")),
    responses((status = 201, body = OrderView, headers(("Location" = String, description = "The order"))),
              (status = 409, description = "`out-of-stock`, `insufficient-funds`, `insufficient-points`, `coupon-used`, `price-changed`, `cart-changed` …; nothing is held", body = ProblemBody),
              (status = 422, description = "the request breaks a rule", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn create(
    State(orders): State<Arc<Orders>>,
    SignedIn(caller): SignedIn,
    headers: HeaderMap,
    trace: Trace,
    input: Input<OrderRequest>,
) -> Result<Response, Problem> {
    let key = input.required_key(caller.member_id)?;
    let wait = wait::preferred(&headers, trace);
    // A repeat must get its first answer even when prices, coupons or stock have changed since.
    if let Some(replayed) = wait::replay(&orders, Create::OPERATION, &key).await? {
        return Ok(replayed);
    }
    let purchase = match purchase(&orders, caller.member_id, &input.value).await {
        // Goes through the writer, to be stored with its key: where the first call was refused, a repeat must not succeed.
        Err(problem) if problem.code().status() < 500 => Err(problem),
        Err(technical) => return Err(technical),
        Ok(purchase) => Ok(purchase),
    };
    let command = Create { member_id: caller.member_id, id: OrderId(new_id()), purchase, key: key.key.clone(), wait };
    wait::run(&orders, command.id, command, key, wait).await
}

async fn purchase(orders: &Orders, member_id: MemberId, request: &OrderRequest) -> Result<Purchase, Problem> {
    let Priced { quote, cart_version } = price(orders, member_id, request).await?;
    let payment = payment(request, &quote)?;
    Ok(Purchase { quote, payment, cart_version })
}

/// The payment that goes with the order, if one was chosen. What costs nothing is paid by no method.
fn payment(request: &OrderRequest, quote: &Quote) -> Result<Option<Payment>, Problem> {
    let Some(choice) = &request.payment else { return Ok(None) };
    if choice.amount.is_some_and(|amount| amount != quote.total) {
        return Err(
            Problem::new(Code::AmountMismatch, format!("The order's total is {} won.", quote.total)).with("total", json!(quote.total))
        );
    }
    let method = if quote.total.0 == 0 { PaymentMethod::None } else { choice.method };
    if method == PaymentMethod::None && quote.total.0 > 0 {
        return Err(Problem::field("/payment/method", Code::PaymentMethodNotAllowed, "is only for orders that cost nothing"));
    }
    Ok(Some(Payment { id: PaymentId(new_id()), method, token: choice.token.clone() }))
}

/// What is bought, for how much, and how it is paid.
struct Purchase {
    quote: Quote,
    payment: Option<Payment>,
    cart_version: Option<i64>,
}

pub struct Create {
    member_id: MemberId,
    id: OrderId,
    purchase: Result<Purchase, Problem>,
    key: String,
    wait: Wait,
}

impl Command for Create {
    type Service = Orders;
    const OPERATION: &'static str = "orders.create";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let from_cart = commands.iter().filter(|command| command.cart_version().is_some());
        carts::load(work, from_cart.map(|command| command.member_id)).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(match &command.purchase {
                Ok(purchase) => command.place(orders, work, purchase)?,
                Err(problem) => refused(problem).into(),
            });
        }
        Ok(outcomes)
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, later: &'a [Later<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, later, |command| Some(command.wait)).await
    }
}

impl Create {
    fn cart_version(&self) -> Option<i64> {
        self.purchase.as_ref().ok().and_then(|purchase| purchase.cart_version)
    }

    fn place(&self, orders: &Orders, work: &mut Work, purchase: &Purchase) -> Result<Outcome, Fault> {
        let now = work.now;
        if let Some(version) = purchase.cart_version
            && let Err(refusal) = work.stash::<Carts>().of(self.member_id).order(version)
        {
            return Ok(refusal.into());
        }
        work.trace(self.id, self.wait.trace);
        let lines = purchase.quote.lines.iter().map(|priced| priced.line.clone()).collect();
        let order = self.order(purchase, orders.settings.saga, now, now.after(orders.settings.unpaid_timeout));
        work.stash::<Touched>().add(Checkout::place(order, lines, purchase.quote.coupons.clone(), now));
        touched::emit_outgoing(work, self.id)?;
        Ok(Outcome::Later(self.id.0))
    }

    fn order(&self, purchase: &Purchase, saga: SagaMode, now: Timestamp, expires_at: Timestamp) -> Order {
        let Purchase { quote, payment, cart_version } = purchase;
        let policies = quote.lines.iter().map(|priced| priced.line.policy);
        Order {
            id: self.id,
            member_id: self.member_id,
            state: OrderState::Pending,
            subtotal: quote.subtotal,
            discount: quote.discount,
            points_used: quote.points,
            shipping: quote.shipping,
            total: quote.total,
            itinerary: itinerary(policies, !quote.coupons.is_empty(), quote.points.0 > 0, payment.is_some()),
            progress: 0,
            saga_state: SagaState::Running,
            slip_run: (saga == SagaMode::Choreographed).then_some(0),
            due_at: None,
            expires_at,
            paid_inline: payment.is_some(),
            from_cart: cart_version.is_some(),
            payment: payment.clone(),
            ending: None,
            reason: None,
            idempotency_key: self.key.clone(),
            events: 0,
            steps: 0,
            created_at: now,
            updated_at: now,
            paid_at: None,
        }
    }
}

fn refused(problem: &Problem) -> Answer {
    let body = http::problem_body(&problem.refusal, &problem.errors, &problem.extra);
    Answer { status: problem.code().status(), body: body.into(), location: None, replayed: false }
}
