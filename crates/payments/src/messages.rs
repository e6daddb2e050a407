//! What payments does on others' messages: the paying step of the checkout saga and its undo, and the wallet's answers.

use crate::{
    Payments,
    model::{Book, Next, Says},
    store,
};
use contracts::{
    Message, OrderId, PaymentId, Refusal,
    messages::{Stop, Way},
};
use kit::{Fault, Tx, Work, engine::Envelope, ports::new_id};
use std::collections::BTreeSet;

pub const READS: &[&str] = &[
    "payment.request",
    "payment.cancel",
    "wallet.debited",
    "wallet.refused",
    "wallet.credited",
    "orders.slip",
    "stock.slip",
    "coupons.slip",
    "wallet.slip",
];

pub async fn consume(payments: &Payments, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut book = work.take_stash::<Book>();
    load_for(&mut work.tx, &mut book, messages).await?;
    for envelope in messages {
        let next = act(payments, work, &mut book, &envelope.message)?;
        payments.follow(work, next)?;
    }
    work.put_stash(book);
    Ok(())
}

async fn load_for(tx: &mut Tx, book: &mut Book, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut payments: BTreeSet<PaymentId> = BTreeSet::new();
    let mut orders: BTreeSet<OrderId> = BTreeSet::new();
    let mut refunds: BTreeSet<PaymentId> = BTreeSet::new();
    for envelope in messages {
        match &envelope.message {
            Message::PaymentRequest(ask) => {
                payments.insert(ask.payment_id);
                orders.insert(ask.order_id);
            }
            Message::PaymentCancel(step) => {
                orders.insert(step.order_id);
            }
            Message::WalletDebited(moved) => {
                payments.insert(moved.payment_id);
            }
            Message::WalletRefused(refused) => {
                payments.insert(refused.payment_id);
            }
            Message::WalletCredited(moved) => {
                payments.insert(moved.payment_id);
                refunds.insert(moved.payment_id);
            }
            other => {
                let Some((slip, (way, stop))) = other.slip().and_then(|slip| Some((slip, slip.call("payments")?))) else { continue };
                orders.insert(slip.order_id);
                if let (Way::Forward, Stop::Payment(ask)) = (way, stop) {
                    payments.insert(ask.payment_id);
                }
            }
        }
    }
    load(tx, book, &payments, orders, &refunds).await
}

/// Brings payments, their refunds where asked for, and everything about their orders into the book.
pub async fn load(
    tx: &mut Tx,
    book: &mut Book,
    payments: &BTreeSet<PaymentId>,
    mut orders: BTreeSet<OrderId>,
    refunds: &BTreeSet<PaymentId>,
) -> Result<(), Fault> {
    orders.extend(store::orders_of(tx, payments).await?);
    store::lock_orders(tx, &orders).await?;
    store::load_payments(tx, book, payments).await?;
    for id in payments {
        orders.extend(book.payment(*id)?.map(|payment| payment.order_id));
    }
    store::load_live(tx, book, &orders).await?;
    store::load_refunds(tx, book, refunds).await?;
    Ok(store::load_cancellations(tx, book, &orders).await?)
}

fn act(payments: &Payments, work: &Work, book: &mut Book, message: &Message) -> Result<Next, Fault> {
    let (rules, now) = (payments.rules(), work.now);
    Ok(match message {
        Message::PaymentRequest(ask) => book.request(ask, &rules, now)?,
        Message::PaymentCancel(step) => book.cancel(step.order_id, new_id(), &rules, now)?,
        Message::WalletDebited(moved) => book.settle(moved.payment_id, &Says::Charged { reference: None }, new_id(), &rules, now)?,
        Message::WalletRefused(refused) => {
            let refusal = Refusal { code: refused.code, detail: refused.detail.clone() };
            book.settle(refused.payment_id, &Says::Refused(refusal), new_id(), &rules, now)?
        }
        Message::WalletCredited(moved) => book.refunded(moved.payment_id, None, now)?,
        other => match other.slip() {
            Some(slip) => book.travel(slip, new_id(), &rules, now)?,
            None => Next::Nothing,
        },
    })
}
