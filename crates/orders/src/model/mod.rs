//! Orders, carts and their rules: pure functions of state, command and time. No IO.

mod cart;
mod checkout;
mod choreography;
mod itinerary;
mod order;
mod pricing;
mod saga;
mod state;
mod unpaid;

pub use cart::Cart;
pub use checkout::Checkout;
pub use itinerary::itinerary;
pub use order::{AppliedCoupon, Order, OrderEvent, OrderLine, PaymentAttempt, Reason, StepRecord, StepResult};
pub use pricing::{AppliedDiscount, Basket, BasketItem, MAX_LINES, PricedLine, Quote, points_per_line, quote};
pub use saga::{SagaState, StepKind};
pub use state::OrderState;
pub use unpaid::{UnpaidHoldings, UnpaidLimits};
