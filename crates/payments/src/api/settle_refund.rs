//! `payments.settle_refund`: the provider confirmed a refund, or did not. Only this process asks for it; it has no route.

use crate::{Payments, messages, model::Book};
use contracts::PaymentId;
use kit::{Answer, Command, Fault, Outcome, Work};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
pub struct SettleRefund {
    /// The payment that goes back.
    pub payment_id: PaymentId,
    /// The provider's reference; none when it did not confirm.
    pub reference: Option<String>,
}

impl Command for SettleRefund {
    type Service = Payments;
    const OPERATION: &'static str = "payments.settle_refund";

    async fn handle<'a>(payments: &'a Payments, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut book = work.take_stash::<Book>();
        let ids = commands.iter().map(|command| command.payment_id).collect();
        messages::load(&mut work.tx, &mut book, &ids, BTreeSet::new(), &ids).await?;
        for command in commands {
            match &command.reference {
                Some(reference) => {
                    let next = book.refunded(command.payment_id, Some(reference.clone()), work.now)?;
                    payments.follow(work, next)?;
                }
                None => book.refund_unknown(command.payment_id, work.now)?,
            }
        }
        work.put_stash(book);
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
