//! `payments.settle_refund`: stores that the provider confirmed a refund, or did not. Internal, without a route: `jobs.rs` submits it.

use crate::{Payments, messages, model::LoadedPayments};
use contracts::PaymentId;
use kit::{Answer, Command, Fault, Outcome, Work};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
pub struct SettleRefund {
    /// The refunded payment.
    pub payment_id: PaymentId,
    /// The provider's reference. `None`: it did not confirm.
    pub reference: Option<String>,
}

impl Command for SettleRefund {
    type Service = Payments;
    const OPERATION: &'static str = "payments.settle_refund";

    async fn handle<'a>(payments: &'a Payments, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedPayments>();
        let ids = commands.iter().map(|command| command.payment_id).collect();
        messages::load(tx, loaded, &ids, BTreeSet::new(), &ids).await?;
        let mut actions = Vec::with_capacity(commands.len());
        for command in commands {
            match &command.reference {
                Some(reference) => actions.push(loaded.complete_refund(command.payment_id, Some(reference.clone()), now)?),
                None => loaded.retry_refund_later(command.payment_id, now)?,
            }
        }
        actions.into_iter().try_for_each(|next| payments.perform(work, next))?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
