//! `payments.settle`: the provider said what became of a payment, or said nothing. Only this process asks for it, after a call or a question;
//! it has no route.

use crate::{
    Payments, messages,
    model::{Book, Says},
};
use contracts::{PaymentId, Timestamp};
use kit::{Answer, Command, Fault, Outcome, Work, ports::new_id};
use std::collections::BTreeSet;

/// The answer to a conclusion that came too late: nothing was changed.
pub const OUTDATED: u16 = 409;

#[derive(Clone, Debug)]
pub struct Settle {
    pub payment_id: PaymentId,
    pub says: Says,
    /// Of what is concluded from the provider's silence: the end of the last call when it was asked. Should another process have called
    /// since, that silence means nothing any more.
    pub last_call: Option<Timestamp>,
}

impl Command for Settle {
    type Service = Payments;
    const OPERATION: &'static str = "payments.settle";

    async fn handle<'a>(payments: &'a Payments, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut book = work.take_stash::<Book>();
        let ids = commands.iter().map(|command| command.payment_id).collect();
        messages::load(&mut work.tx, &mut book, &ids, BTreeSet::new(), &BTreeSet::new()).await?;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let is_outdated = match (command.last_call, book.payment(command.payment_id)?) {
                (Some(last_call), Some(payment)) => payment.last_call() != last_call,
                _ => false,
            };
            if is_outdated {
                outcomes.push(Answer::empty(OUTDATED).into());
                continue;
            }
            let next = book.settle(command.payment_id, &command.says, new_id(), &payments.rules(), work.now)?;
            payments.follow(work, next)?;
            outcomes.push(Answer::empty(204).into());
        }
        work.put_stash(book);
        Ok(outcomes)
    }
}
