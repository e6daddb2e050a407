//! Handles the payment step of the checkout saga, its undo, and the wallet's answers.

use crate::{
    Payments,
    model::{LoadedPayments, NextAction, ProviderStatus},
    store,
};
use contracts::{
    Kind, Message, OrderId, PaymentId, Refusal,
    messages::{Direction, SlipStep},
};
use kit::{Fault, Tx, Work, engine::Envelope, ports::new_id};
use std::collections::BTreeSet;

/// Message kinds that the service reads.
pub const READS: &[Kind] = &[
    Kind::PaymentRequest,
    Kind::PaymentCancel,
    Kind::WalletDebited,
    Kind::WalletRefused,
    Kind::WalletCredited,
    Kind::OrdersSlip,
    Kind::StockSlip,
    Kind::CouponsSlip,
    Kind::WalletSlip,
];

pub async fn consume(payments: &Payments, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut loaded = work.take_stash::<LoadedPayments>();
    load_rows_for(&mut work.tx, &mut loaded, messages).await?;
    for envelope in messages {
        let next = decide(payments, work, &mut loaded, &envelope.message)?;
        payments.perform(work, next)?;
    }
    work.put_stash(loaded);
    Ok(())
}

/// Saves the rows that the transaction changed.
pub async fn flush(_: &Payments, work: &mut Work) -> Result<(), Fault> {
    let (tx, loaded) = work.rows::<LoadedPayments>();
    store::save(tx, loaded).await
}

async fn load_rows_for(tx: &mut Tx, loaded: &mut LoadedPayments, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut payments: BTreeSet<PaymentId> = BTreeSet::new();
    let mut orders: BTreeSet<OrderId> = BTreeSet::new();
    let mut refunds: BTreeSet<PaymentId> = BTreeSet::new();
    for envelope in messages {
        match &envelope.message {
            Message::PaymentRequest(request) => {
                payments.insert(request.payment_id);
                orders.insert(request.order_id);
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
                let Some((slip, (direction, slip_step))) = other.slip().and_then(|slip| Some((slip, slip.next_step("payments")?))) else {
                    continue;
                };
                orders.insert(slip.order_id);
                if let (Direction::Forward, SlipStep::Payment(request)) = (direction, slip_step) {
                    payments.insert(request.payment_id);
                }
            }
        }
    }
    load(tx, loaded, &payments, orders, &refunds).await
}

/// Loads payments, the refunds in `refunds`, and the live payments and cancellations of their orders. Locks the orders first.
pub async fn load(
    tx: &mut Tx,
    loaded: &mut LoadedPayments,
    payments: &BTreeSet<PaymentId>,
    mut orders: BTreeSet<OrderId>,
    refunds: &BTreeSet<PaymentId>,
) -> Result<(), Fault> {
    orders.extend(store::orders_of(tx, payments).await?);
    store::lock_orders(tx, &orders).await?;
    store::load_payments(tx, loaded, payments).await?;
    for id in payments {
        orders.extend(loaded.payment(*id)?.map(|payment| payment.order_id));
    }
    store::load_live(tx, loaded, &orders).await?;
    store::load_refunds(tx, loaded, refunds).await?;
    Ok(store::load_cancellations(tx, loaded, &orders).await?)
}

fn decide(payments: &Payments, work: &Work, loaded: &mut LoadedPayments, message: &Message) -> Result<NextAction, Fault> {
    let (rules, now) = (payments.rules(), work.now);
    Ok(match message {
        Message::PaymentRequest(request) => loaded.request(request, &rules, now)?,
        Message::PaymentCancel(step) => loaded.cancel(step.order_id, new_id(), &rules, now)?,
        Message::WalletDebited(moved) => {
            loaded.settle(moved.payment_id, &ProviderStatus::Charged { reference: None }, new_id(), &rules, now)?
        }
        Message::WalletRefused(refused) => {
            let refusal = Refusal { code: refused.code, detail: refused.detail.clone() };
            loaded.settle(refused.payment_id, &ProviderStatus::Refused(refusal), new_id(), &rules, now)?
        }
        Message::WalletCredited(moved) => loaded.complete_refund(moved.payment_id, None, now)?,
        other => match other.slip() {
            Some(slip) => loaded.advance_slip(slip, new_id(), &rules, now)?,
            None => NextAction::Nothing,
        },
    })
}
