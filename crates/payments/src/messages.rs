//! Handles the payment step of the checkout saga, its undo, and the wallet's answers.

use crate::{
    Payments,
    model::{LoadedPayments, NextAction, PaymentRules, ProviderStatus},
    store,
};
use contracts::{
    Kind, Message, OrderId, PaymentId, Refusal, Timestamp,
    messages::{RequestToPayments, SagaAction, saga_reads, saga_tasks},
};
use kit::{Fault, Tx, Work, engine::Envelope, ports::new_id};
use std::{collections::BTreeSet, sync::LazyLock};

/// Message kinds that the service reads.
pub static READS: LazyLock<Vec<Kind>> =
    LazyLock::new(|| saga_reads("payments", &[Kind::WalletDebited, Kind::WalletRefused, Kind::WalletCredited]));

pub async fn consume(payments: &Payments, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let (tx, loaded) = work.rows::<LoadedPayments>();
    load_rows_for(tx, loaded, messages).await?;
    let (rules, now) = (payments.rules(), work.now);
    for envelope in messages {
        let next = decide(work.loaded(), &envelope.message, &rules, now)?;
        payments.perform(work, next)?;
    }
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
                for task in saga_tasks(other) {
                    orders.insert(task.order_id);
                    if let SagaAction::Do(RequestToPayments::Payment(request)) = task.action {
                        payments.insert(request.payment_id);
                    }
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

fn decide(loaded: &mut LoadedPayments, message: &Message, rules: &PaymentRules, now: Timestamp) -> Result<NextAction, Fault> {
    Ok(match message {
        Message::WalletDebited(moved) => {
            loaded.settle(moved.payment_id, &ProviderStatus::Charged { reference: None }, new_id(), rules, now)?
        }
        Message::WalletRefused(refused) => {
            let refusal = Refusal { code: refused.code, detail: refused.detail.clone() };
            loaded.settle(refused.payment_id, &ProviderStatus::Refused(refusal), new_id(), rules, now)?
        }
        Message::WalletCredited(moved) => loaded.complete_refund(moved.payment_id, None, now)?,
        other => match saga_tasks(other).next().map(|task| (task.order_id, task.action)) {
            Some((_, SagaAction::Do(RequestToPayments::Payment(request)))) => loaded.request(request, other.slip(), rules, now)?,
            Some((order_id, SagaAction::Undo(_))) => loaded.cancel(order_id, other.slip(), new_id(), rules, now)?,
            Some((_, SagaAction::Commit)) | None => NextAction::Nothing,
        },
    })
}
