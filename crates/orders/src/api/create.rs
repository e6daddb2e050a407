//! `orders.create`: places an order and starts its checkout saga. With `payment`, the saga includes the payment. Any signed-in account.

use super::quote::{OrderRequest, PricedOrder, price};
use crate::{
    Orders, SagaMode,
    loaded::{self, LoadedOrders},
    model::{Checkout, Order, OrderLine, OrderState, PaymentAttempt, Quote, SagaState, itinerary},
    view::OrderView,
    wait::{self, WaitPreference},
};
use axum::{extract::State, http::HeaderMap, response::Response};
use contracts::{Code, MemberId, OrderId, PaymentId, Refusal, Timestamp, Won, messages::PaymentMethod};
use kit::{
    Answer, Command, Outcome, Work,
    batch::Deferred,
    engine::Fault,
    extract::SignedIn,
    http::{self, Input, Problem, ProblemBody, Trace},
    ports::new_id,
};
use serde_json::json;
use std::sync::Arc;

/// Places an order and starts its checkout saga. With `payment`, the saga includes the payment
///
/// Any signed-in account. An order without `payment` reserves its goods until `expires_at`; one that costs nothing is paid at once.
/// Open unpaid orders of a member, and the units of a SKU in them, are limited (`unpaid-limit`). After an unpaid order that expired or that
/// the buyer cancelled, orders without payment are refused for a while (`unpaid-paused`): 60 seconds, doubled by each further one.
/// The mall sets these limits, and a product may have its own `max_unpaid_per_member`.
#[utoipa::path(post, path = "/v1/orders", operation_id = "orders.create", tag = "orders", request_body = OrderRequest,
    params(("Idempotency-Key" = String, Header, description = "Identifies the intention: a repeat gets the first answer"),
           ("Prefer" = Option<String>, Header, description = "`wait=<seconds>`: answer when the order comes to rest")),
    responses((status = 201, body = OrderView, headers(("Location" = String, description = "The order"))),
              (status = 409, description = "`out-of-stock`, `insufficient-funds`, `insufficient-points`, `coupon-used`, `price-changed`, `cart-changed` …; nothing is held. `unpaid-limit`, `unpaid-paused`: an order with payment is possible", body = ProblemBody),
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
    let wait = wait::parse_prefer(&headers, trace);
    // A repeat must get its first answer, even when prices, coupons or stock have changed since.
    if let Some(replayed) = kit::submit::replayed_answer::<CreateOrder>(&orders, Some(&key)).await? {
        return Ok(replayed);
    }
    let purchase = match purchase(&orders, caller.member_id, &input.value).await {
        // The writer stores the refusal with its key, so that a repeat cannot succeed.
        Err(problem) if problem.code().status() < 500 => Err(problem),
        Err(technical) => return Err(technical),
        Ok(purchase) => Ok(purchase),
    };
    let command = CreateOrder { member_id: caller.member_id, id: OrderId(new_id()), purchase, key: key.key.clone(), wait };
    wait::submit_and_wait(&orders, command.id, command, key, wait).await
}

async fn purchase(orders: &Orders, member_id: MemberId, request: &OrderRequest) -> Result<Purchase, Problem> {
    let PricedOrder { quote, cart_version } = price(orders, member_id, request).await?;
    let payment = payment(request, &quote)?;
    Ok(Purchase { quote, payment, cart_version })
}

/// The payment of the order. `None`: the buyer pays later. An order that costs nothing gets the method `none`, also without a choice.
fn payment(request: &OrderRequest, quote: &Quote) -> Result<Option<PaymentAttempt>, Problem> {
    let Some(choice) = &request.payment else {
        let nothing = PaymentAttempt { id: PaymentId(new_id()), method: PaymentMethod::None, token: None };
        return Ok((quote.total == Won::ZERO).then_some(nothing));
    };
    if choice.amount.is_some_and(|amount| amount != quote.total) {
        return Err(
            Problem::new(Code::AmountMismatch, format!("The order's total is {} won.", quote.total)).with("total", json!(quote.total))
        );
    }
    let method = if quote.total.0 == 0 { PaymentMethod::None } else { choice.method };
    if method == PaymentMethod::None && quote.total.0 > 0 {
        return Err(Problem::field("/payment/method", Code::PaymentMethodNotAllowed, "is only for orders that cost nothing"));
    }
    Ok(Some(PaymentAttempt { id: PaymentId(new_id()), method, token: choice.token.clone() }))
}

/// Priced items, payment and cart version of a new order.
struct Purchase {
    quote: Quote,
    payment: Option<PaymentAttempt>,
    cart_version: Option<i64>,
}

pub struct CreateOrder {
    member_id: MemberId,
    id: OrderId,
    purchase: Result<Purchase, Problem>,
    key: String,
    wait: WaitPreference,
}

impl Command for CreateOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.create";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let from_cart = commands.iter().filter(|command| command.cart_version().is_some());
        let unpaid = commands.iter().filter(|command| command.is_unpaid());
        let (tx, loaded) = work.rows::<LoadedOrders>();
        loaded.holdings.load(tx, unpaid.map(|command| command.member_id).collect()).await?;
        loaded.carts.load(tx, from_cart.map(|command| command.member_id)).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(match &command.purchase {
                Ok(purchase) => command.place(orders, work, purchase)?,
                Err(problem) => refused(problem).into(),
            });
        }
        Ok(outcomes)
    }

    async fn resolve<'a>(_: &'a Orders, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        wait::resolve(work, deferred, |command| Some(command.wait)).await
    }
}

impl CreateOrder {
    fn cart_version(&self) -> Option<i64> {
        self.purchase.as_ref().ok().and_then(|purchase| purchase.cart_version)
    }

    fn is_unpaid(&self) -> bool {
        self.purchase.as_ref().is_ok_and(|purchase| purchase.payment.is_none())
    }

    fn place(&self, orders: &Orders, work: &mut Work, purchase: &Purchase) -> Result<Outcome, Fault> {
        let now = work.now;
        if let Err(refusal) = self.admit(orders, work.loaded::<LoadedOrders>(), purchase, now) {
            return Ok(refusal.into());
        }
        work.trace(self.id, self.wait.trace);
        let lines: Vec<OrderLine> = purchase.quote.lines.iter().map(|priced| priced.line.clone()).collect();
        if self.is_unpaid() {
            work.loaded::<LoadedOrders>().holdings.holdings_mut(self.member_id).add(self.id, &lines);
        }
        let order = self.order(purchase, orders.settings.saga, now, now.after(orders.settings.unpaid_timeout));
        work.loaded::<LoadedOrders>().add(Checkout::place(order, lines, purchase.quote.coupons.clone(), now));
        loaded::emit_outgoing(work, self.id)?;
        Ok(Outcome::Deferred(self.id.0))
    }

    /// Checks the limits on orders without payment, then marks the cart as ordered.
    fn admit(&self, orders: &Orders, loaded: &mut LoadedOrders, purchase: &Purchase, now: Timestamp) -> Result<(), Refusal> {
        if self.is_unpaid() {
            loaded.holdings.holdings_mut(self.member_id).admit(&purchase.quote.lines, &orders.settings.unpaid, now)?;
        }
        match purchase.cart_version {
            Some(version) => loaded.carts.cart_mut(self.member_id).mark_ordered(version),
            None => Ok(()),
        }
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
