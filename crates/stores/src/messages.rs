//! Effects of other services' messages: a store whose seller closed the account goes over to the mall.

use crate::{Stores, store};
use contracts::{Kind, MemberId, Message};
use kit::{Fault, Work, engine::Envelope};
use std::sync::Arc;

/// Message kinds that the service reads.
pub const READS: &[Kind] = &[Kind::MemberClosed];

/// An account with a store cannot be closed. So there is one only if it was opened at the same time, or before this rule.
pub async fn consume(stores: &Stores, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let closed = messages.iter().filter_map(|envelope| match &envelope.message {
        Message::MemberClosed(closing) => Some(closing.member_id),
        _ => None,
    });
    let closed: Vec<MemberId> = closed.collect();
    let moved = store::take_over(&mut work.tx, &closed).await?;
    if moved > 0 {
        let cache = Arc::clone(&stores.cache);
        work.after_commit(move || {
            tracing::warn!(stores = moved, "stores taken over by the mall: their seller closed the account");
            cache.invalidate();
        });
    }
    Ok(())
}
