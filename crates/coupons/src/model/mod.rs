//! The rules of coupons, pure: a state, what is asked and the instant in, a decision out. Nothing here knows a database, a request
//! or another service, so every rule can be tested, and contradicted, by itself.

mod definition;
mod hold;
mod issued;
mod terms;
mod waitlist;

pub use definition::{Change, Claim, Definition, NewDefinition, Phase, Standing, Unit};
pub use hold::{Hold, HoldState};
pub use issued::{IssuedCoupon, State};
pub use terms::{Mistake, Terms};
pub use waitlist::{Entry, Ticket, TicketState, nodes_counting, nodes_up_to, position};
