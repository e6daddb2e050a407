//! Effects of other services' messages: a member who runs a store becomes a seller, from its next access token on.

use crate::{Accounts, store};
use contracts::{Kind, Message};
use kit::{Fault, Work, engine::Envelope};

/// Message kinds that the service reads.
pub const READS: &[Kind] = &[Kind::StoreCreated];

pub async fn consume(_: &Accounts, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let sellers = messages.iter().filter_map(|envelope| match &envelope.message {
        Message::StoreCreated(created) => created.seller_id,
        _ => None,
    });
    let mut members = store::members::lock(&mut work.tx, sellers).await?;
    members.retain_mut(|member| member.make_seller());
    store::members::save(&mut work.tx, &members).await?;
    Ok(())
}
