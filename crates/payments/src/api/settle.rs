//! `payments.settle`: the provider said what became of a payment, or said nothing. Only this process asks for it, after a call or a question;
//! it has no route.

use crate::{
    Payments, messages,
    model::{Book, Says},
};
use contracts::PaymentId;
use kit::{Answer, Command, Fault, Outcome, Work, ports::new_id};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
pub struct Settle {
    pub payment_id: PaymentId,
    pub says: Says,
}

impl Command for Settle {
    type Service = Payments;
    const OPERATION: &'static str = "payments.settle";

    async fn handle<'a>(payments: &'a Payments, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut book = work.take_stash::<Book>();
        let ids = commands.iter().map(|command| command.payment_id).collect();
        messages::load(&mut work.tx, &mut book, &ids, BTreeSet::new(), &BTreeSet::new()).await?;
        for command in commands {
            let next = book.settle(command.payment_id, &command.says, new_id(), &payments.rules(), work.now)?;
            payments.follow(work, next)?;
        }
        work.put_stash(book);
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
