//! Orders and their rules: pure functions from state, command and time to a decision. No IO.

mod asks;
mod cart;
mod checkout;
mod choreography;
mod order;
mod pricing;
mod saga;
mod state;

pub use cart::Cart;
pub use checkout::Checkout;
pub use order::{AppliedCoupon, Event, Line, Order, Payment, Reason, StepRecord, StepResult};
pub use pricing::{AppliedDiscount, Basket, BasketItem, MAX_LINES, PricedLine, Quote, quote};
pub use saga::{SagaState, Step, StepKind, itinerary};
pub use state::State;
