//! `payments.settle`: stores the provider's answer about a payment, or the lack of one. Internal, without a route: `jobs.rs` submits it.

use crate::{
    Payments, messages,
    model::{LoadedPayments, ProviderStatus},
};
use contracts::{PaymentId, Timestamp};
use kit::{Answer, Command, Fault, Outcome, Work, ports::new_id};
use std::collections::BTreeSet;

/// Status of a rejected conclusion: another process has called the provider since, and nothing was changed.
pub const OUTDATED: u16 = 409;

#[derive(Clone, Debug)]
pub struct SettlePayment {
    pub payment_id: PaymentId,
    pub status: ProviderStatus,
    /// For a conclusion from a missing record: the end of the last call before the lookup. A later call by another process invalidates the
    /// conclusion. `None`: the provider answered.
    pub last_call: Option<Timestamp>,
}

impl Command for SettlePayment {
    type Service = Payments;
    const OPERATION: &'static str = "payments.settle";

    async fn handle<'a>(payments: &'a Payments, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (rules, now) = (payments.rules(), work.now);
        let (tx, loaded) = work.rows::<LoadedPayments>();
        let ids = commands.iter().map(|command| command.payment_id).collect();
        messages::load(tx, loaded, &ids, BTreeSet::new(), &BTreeSet::new()).await?;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        let mut actions = Vec::with_capacity(commands.len());
        for command in commands {
            let is_outdated = match (command.last_call, loaded.payment(command.payment_id)?) {
                (Some(last_call), Some(payment)) => payment.last_call() != last_call,
                _ => false,
            };
            if is_outdated {
                outcomes.push(Answer::empty(OUTDATED).into());
                continue;
            }
            actions.push(loaded.settle(command.payment_id, &command.status, new_id(), &rules, now)?);
            outcomes.push(Answer::empty(204).into());
        }
        actions.into_iter().try_for_each(|next| payments.perform(work, next))?;
        Ok(outcomes)
    }
}
