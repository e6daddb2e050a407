//! The rules of accounts, pure: what is given, what is decided. No SQL, no clock, no IO.

mod contact;
mod member;
mod session;

pub use contact::{Email, phone};
pub use member::{Changes, Member, MemberState, NewPassword, UNUSABLE_PASSWORD};
pub use session::{Digest, EndReason, Presented, SESSION_LIFETIME, Session, Token, TokenState, WebSession, present};
