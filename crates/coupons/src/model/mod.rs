//! Business rules of coupons, pure: state, request and time in, decision out. They know no database, no request and no other service, so
//! each rule is tested by itself.

mod definition;
mod hold;
mod issued;
mod terms;
mod waitlist;

pub use definition::{ClaimDecision, CouponPhase, Definition, DefinitionChange, MemberHoldings, NewDefinition, Unit};
pub use hold::{OrderHold, OrderHoldState};
pub use issued::{IssuedCoupon, IssuedState};
pub use terms::{Mistake, Terms};
pub use waitlist::{Ticket, TicketState, WaitlistEntry, nodes_counting, nodes_up_to, position};
