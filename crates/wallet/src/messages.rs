//! What the wallet does on others' messages: it is a participant of the checkout saga (points) and the purse of payments (cash).
//!
//! Owns the loading of everything a group of messages needs, each row once. Every answer carries the order id as its key, like the question.

use crate::{
    Wallet,
    model::{AccountKey, Broken, Cause, Ledger, POINTS_GRANTED, POINTS_SPENT, SALES},
    store,
};
use contracts::{
    Message, OrderId, Timestamp,
    messages::{RoutingSlip, StepDone, StepRefused, Stop, WalletMoved, WalletRefused, Way},
};
use kit::{Fault, Tx, Work, engine::Envelope};
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

pub const READS: &[&str] = &[
    "points.hold",
    "points.unhold",
    "points.use",
    "order.confirmed",
    "order.cancelled",
    "wallet.debit",
    "wallet.credit",
    "orders.slip",
    "stock.slip",
    "coupons.slip",
    "payments.slip",
];

const ME: &str = "wallet";

pub async fn consume(wallet: &Wallet, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut ledger = work.take_stash::<Ledger>();
    load(&mut work.tx, &mut ledger, messages).await?;
    for envelope in messages {
        act(wallet, work, &mut ledger, &envelope.message)?;
    }
    work.put_stash(ledger);
    Ok(())
}

/// Holds and causes first: they tell which accounts are needed.
async fn load(tx: &mut Tx, ledger: &mut Ledger, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut orders: BTreeSet<OrderId> = BTreeSet::new();
    let mut causes: Vec<(Cause, Uuid)> = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::PointsHold(ask) => {
                orders.insert(ask.order_id);
            }
            Message::PointsUnhold(step) | Message::PointsUse(step) => {
                orders.insert(step.order_id);
            }
            Message::WalletDebit(ask) => causes.push((Cause::Pay, ask.payment_id.0)),
            Message::WalletCredit(ask) => causes.extend([(Cause::Pay, ask.payment_id.0), (Cause::Refund, ask.payment_id.0)]),
            Message::OrderConfirmed(order) => causes.push((Cause::Earn, order.order_id.0)),
            Message::OrderCancelled(order) => causes.extend([(Cause::Earn, order.order_id.0), (Cause::EarnBack, order.order_id.0)]),
            other => orders.extend(other.slip().filter(|slip| slip.call(ME).is_some()).map(|slip| slip.order_id)),
        }
    }
    store::load_holds(tx, ledger, &orders).await?;
    store::load_causes(tx, ledger, &causes).await?;
    let accounts = accounts_of(ledger, messages)?;
    Ok(store::load_accounts(tx, ledger, &accounts).await?)
}

fn accounts_of(ledger: &Ledger, messages: &[&Envelope]) -> Result<BTreeSet<AccountKey>, Fault> {
    let mut accounts: BTreeSet<AccountKey> = BTreeSet::new();
    let mut confirmed: HashSet<OrderId> = HashSet::new();
    for envelope in messages {
        match &envelope.message {
            Message::PointsHold(ask) => {
                accounts.insert(AccountKey::reward(ask.member_id));
            }
            Message::PointsUnhold(step) | Message::PointsUse(step) => {
                // Without a stored hold, one made by an earlier message of this group has its account loaded already.
                if let Some(member_id) = ledger.hold(step.order_id)?.and_then(|hold| hold.member_id) {
                    accounts.insert(AccountKey::reward(member_id));
                }
                accounts.insert(POINTS_SPENT);
            }
            Message::WalletDebit(ask) | Message::WalletCredit(ask) => accounts.extend([AccountKey::cash(ask.member_id), SALES]),
            Message::OrderConfirmed(order) => {
                confirmed.insert(order.order_id);
                accounts.extend([AccountKey::reward(order.member_id), POINTS_GRANTED]);
            }
            // Most cancelled orders never earned anything, and need no account.
            Message::OrderCancelled(order)
                if confirmed.contains(&order.order_id) || ledger.settled(Cause::Earn, order.order_id.0)?.is_some() =>
            {
                accounts.extend([AccountKey::reward(order.member_id), POINTS_GRANTED]);
            }
            other => match other.slip().and_then(|slip| Some((slip, slip.call(ME)?))) {
                Some((_, (Way::Forward, Stop::PointsHold(ask)))) => {
                    accounts.insert(AccountKey::reward(ask.member_id));
                }
                Some((slip, _)) => {
                    accounts.extend(ledger.hold(slip.order_id)?.and_then(|hold| hold.member_id).map(AccountKey::reward));
                    accounts.insert(POINTS_SPENT);
                }
                None => {}
            },
        }
    }
    Ok(accounts)
}

fn act(wallet: &Wallet, work: &mut Work, ledger: &mut Ledger, message: &Message) -> Result<(), Fault> {
    let at = work.now;
    match message {
        Message::PointsHold(ask) => {
            let order_id = ask.order_id;
            let answer = match ledger.hold_points(ask, at)? {
                Ok(()) => Message::PointsHeld(StepDone { order_id }),
                Err(refusal) => Message::PointsRefused(StepRefused { order_id, code: refusal.code, detail: refusal.detail }),
            };
            work.emit(order_id, answer)
        }
        Message::PointsUnhold(step) => {
            ledger.unhold_points(step.order_id, at)?;
            work.emit(step.order_id, Message::PointsReleased(StepDone { order_id: step.order_id }))
        }
        Message::PointsUse(step) => Ok(ledger.use_points(step.order_id, at)?),
        Message::WalletDebit(ask) => {
            let payment_id = ask.payment_id;
            let answer = match ledger.debit(ask, at)? {
                Ok(()) => Message::WalletDebited(WalletMoved { payment_id }),
                Err(refusal) => Message::WalletRefused(WalletRefused { payment_id, code: refusal.code, detail: refusal.detail }),
            };
            work.emit(ask.order_id, answer)
        }
        Message::WalletCredit(ask) => {
            ledger.credit(ask, at)?;
            work.emit(ask.order_id, Message::WalletCredited(WalletMoved { payment_id: ask.payment_id }))
        }
        Message::OrderConfirmed(order) => Ok(ledger.earn(order, wallet.settings.earn_basis_points, at)?),
        Message::OrderCancelled(order) => Ok(ledger.take_back_earned(order.order_id, order.member_id, at)?),
        other => match other.slip().filter(|slip| slip.call(ME).is_some()) {
            Some(slip) => {
                let slip = travel(ledger, slip.clone(), at)?;
                work.emit(slip.order_id, Message::WalletSlip(slip))
            }
            None => Ok(()),
        },
    }
}

/// Does or undoes what a slip calls for.
fn travel(ledger: &mut Ledger, mut slip: RoutingSlip, at: Timestamp) -> Result<RoutingSlip, Broken> {
    while let Some((way, stop)) = slip.call(ME) {
        match (way, stop) {
            (Way::Back, _) => {
                ledger.unhold_points(slip.order_id, at)?;
                slip.undone(at);
            }
            (Way::Forward, Stop::PointsHold(ask)) => {
                let answer = ledger.hold_points(ask, at)?;
                slip.answer(answer, at);
            }
            (Way::Forward, _) => break,
        }
    }
    Ok(slip)
}
