//! Effects of other services' messages: saga steps about points, debits and credits of payments, and points earned by orders.
//!
//! Loads each row that a group of messages needs once. Every answer has the order id as its key, like its message.

use crate::{
    Wallet,
    model::{AccountKey, Cause, Ledger, LedgerViolation, POINTS_GRANTED, POINTS_SPENT, SALES},
    store,
};
use contracts::{
    Kind, Message, OrderId, Timestamp,
    messages::{Direction, RoutingSlip, SlipStep, StepDone, StepRefused, WalletMoved, WalletRefused},
};
use kit::{Fault, Tx, Work, engine::Envelope};
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

pub const READS: &[Kind] = &[
    Kind::PointsHold,
    Kind::PointsUnhold,
    Kind::PointsUse,
    Kind::OrderConfirmed,
    Kind::OrderCancelled,
    Kind::WalletDebit,
    Kind::WalletCredit,
    Kind::OrdersSlip,
    Kind::StockSlip,
    Kind::CouponsSlip,
    Kind::PaymentsSlip,
];

const SERVICE: &str = "wallet";

pub async fn consume(wallet: &Wallet, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut ledger = work.take_stash::<Ledger>();
    load(&mut work.tx, &mut ledger, messages).await?;
    for envelope in messages {
        handle(wallet, work, &mut ledger, &envelope.message)?;
    }
    work.put_stash(ledger);
    Ok(())
}

/// Saves the rows that the transaction changed.
pub async fn flush(_: &Wallet, work: &mut Work) -> Result<(), Fault> {
    let (tx, ledger) = work.rows::<Ledger>();
    store::save(tx, ledger).await
}

/// Loads holds and causes first, because they determine the accounts.
async fn load(tx: &mut Tx, ledger: &mut Ledger, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut orders: BTreeSet<OrderId> = BTreeSet::new();
    let mut causes: Vec<(Cause, Uuid)> = Vec::new();
    for envelope in messages {
        match &envelope.message {
            Message::PointsHold(request) => {
                orders.insert(request.order_id);
            }
            Message::PointsUnhold(step) | Message::PointsUse(step) => {
                orders.insert(step.order_id);
            }
            Message::WalletDebit(request) => causes.push((Cause::Pay, request.payment_id.0)),
            Message::WalletCredit(request) => causes.extend([(Cause::Pay, request.payment_id.0), (Cause::Refund, request.payment_id.0)]),
            Message::OrderConfirmed(order) => causes.push((Cause::Earn, order.order_id.0)),
            Message::OrderCancelled(order) => causes.extend([(Cause::Earn, order.order_id.0), (Cause::EarnBack, order.order_id.0)]),
            other => orders.extend(other.slip().filter(|slip| slip.next_step(SERVICE).is_some()).map(|slip| slip.order_id)),
        }
    }
    store::load_holds(tx, ledger, &orders).await?;
    store::load_causes(tx, ledger, &causes).await?;
    let accounts = needed_accounts(ledger, messages)?;
    Ok(store::load_accounts(tx, ledger, &accounts).await?)
}

fn needed_accounts(ledger: &Ledger, messages: &[&Envelope]) -> Result<BTreeSet<AccountKey>, Fault> {
    let mut accounts: BTreeSet<AccountKey> = BTreeSet::new();
    let mut confirmed: HashSet<OrderId> = HashSet::new();
    for envelope in messages {
        match &envelope.message {
            Message::PointsHold(request) => {
                accounts.insert(AccountKey::reward(request.member_id));
            }
            Message::PointsUnhold(step) | Message::PointsUse(step) => {
                // Without a stored hold, an earlier message of this group may make one; the account of that message is loaded.
                if let Some(member_id) = ledger.hold(step.order_id)?.and_then(|hold| hold.member_id) {
                    accounts.insert(AccountKey::reward(member_id));
                }
                accounts.insert(POINTS_SPENT);
            }
            Message::WalletDebit(request) | Message::WalletCredit(request) => accounts.extend([AccountKey::cash(request.member_id), SALES]),
            Message::OrderConfirmed(order) => {
                confirmed.insert(order.order_id);
                accounts.extend([AccountKey::reward(order.member_id), POINTS_GRANTED]);
            }
            // Most cancelled orders earned nothing and need no account.
            Message::OrderCancelled(order)
                if confirmed.contains(&order.order_id) || ledger.outcome_of(Cause::Earn, order.order_id.0)?.is_some() =>
            {
                accounts.extend([AccountKey::reward(order.member_id), POINTS_GRANTED]);
            }
            other => match other.slip().and_then(|slip| Some((slip, slip.next_step(SERVICE)?))) {
                Some((_, (Direction::Forward, SlipStep::PointsHold(request)))) => {
                    accounts.insert(AccountKey::reward(request.member_id));
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

fn handle(wallet: &Wallet, work: &mut Work, ledger: &mut Ledger, message: &Message) -> Result<(), Fault> {
    let at = work.now;
    match message {
        Message::PointsHold(request) => {
            let order_id = request.order_id;
            let answer = match ledger.hold_points(request, at)? {
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
        Message::WalletDebit(request) => {
            let payment_id = request.payment_id;
            let answer = match ledger.debit(request, at)? {
                Ok(()) => Message::WalletDebited(WalletMoved { payment_id }),
                Err(refusal) => Message::WalletRefused(WalletRefused { payment_id, code: refusal.code, detail: refusal.detail }),
            };
            work.emit(request.order_id, answer)
        }
        Message::WalletCredit(request) => {
            ledger.credit(request, at)?;
            work.emit(request.order_id, Message::WalletCredited(WalletMoved { payment_id: request.payment_id }))
        }
        Message::OrderConfirmed(order) => Ok(ledger.earn(order, wallet.settings.earn_basis_points, at)?),
        Message::OrderCancelled(order) => Ok(ledger.take_back_earned(order.order_id, order.member_id, at)?),
        other => match other.slip().filter(|slip| slip.next_step(SERVICE).is_some()) {
            Some(slip) => {
                let slip = advance_slip(ledger, slip.clone(), at)?;
                work.emit(slip.order_id, Message::WalletSlip(slip))
            }
            None => Ok(()),
        },
    }
}

/// Carries out the steps that a slip has for the wallet.
fn advance_slip(ledger: &mut Ledger, mut slip: RoutingSlip, at: Timestamp) -> Result<RoutingSlip, LedgerViolation> {
    while let Some((direction, step)) = slip.next_step(SERVICE) {
        match (direction, step) {
            (Direction::Back, _) => {
                ledger.unhold_points(slip.order_id, at)?;
                slip.record_undone(at);
            }
            (Direction::Forward, SlipStep::PointsHold(request)) => {
                let answer = ledger.hold_points(request, at)?;
                slip.record_result(answer, at);
            }
            (Direction::Forward, _) => break,
        }
    }
    Ok(slip)
}
