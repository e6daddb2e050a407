//! The rules of accounts as pure functions: no SQL, no clock, no IO.

mod contact;
mod member;
mod session;

pub use contact::{Email, parse_phone};
pub use member::{Member, MemberChanges, MemberState, NewPassword, UNUSABLE_PASSWORD};
pub use session::{
    EndReason, OpenSessionCard, RefreshToken, Rotation, SESSION_LIFETIME, SecretDigest, Session, SessionCookie, TokenState, rotate,
};
