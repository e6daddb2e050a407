//! Effects of other services' messages: saga steps about points, debits and credits of payments, points earned by orders, and closed
//! accounts.
//!
//! Loads each row that a group of messages needs once. Every answer has the order id as its key, like its message.

use crate::{
    Wallet,
    model::{AccountKey, Cause, Ledger, LedgerViolation, POINTS_GRANTED, POINTS_SPENT, SALES},
    store,
};
use contracts::{
    Kind, Message, OrderId, Refusal, Timestamp,
    messages::{Participant, RequestToWallet, SagaAction, WalletMoved, WalletRefused, execute_tasks, saga_reads, saga_tasks},
};
use kit::{Fault, Tx, Work, engine::Envelope, idempotency, ports::new_id};
use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};
use uuid::Uuid;

pub static READS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    saga_reads("wallet", &[Kind::OrderConfirmed, Kind::OrderCancelled, Kind::WalletDebit, Kind::WalletCredit, Kind::MemberClosed])
});

impl Participant for Ledger {
    type Request<'m> = RequestToWallet<'m>;
    type Error = LedgerViolation;

    fn execute(
        &mut self,
        RequestToWallet::PointsHold(request): RequestToWallet<'_>,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, LedgerViolation> {
        self.hold_points(request, now)
    }

    fn undo(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), LedgerViolation> {
        self.unhold_points(order_id, now)
    }

    fn commit(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), LedgerViolation> {
        self.use_points(order_id, now)
    }
}

pub async fn consume(wallet: &Wallet, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let (tx, ledger) = work.rows::<Ledger>();
    load(tx, ledger, messages).await?;
    let now = work.now;
    for envelope in messages {
        if let Some(answer) = handle(wallet, work.loaded(), &envelope.message, now)? {
            work.emit(envelope.key, answer)?;
        }
    }
    forfeit_points(work).await?;
    forget_answers(work, messages).await
}

/// Takes points back that closed accounts have, or got back from an order. The mall's account is locked last here, and first elsewhere.
/// If two transactions deadlock, the database rolls one back, and it is repeated.
async fn forfeit_points(work: &mut Work) -> Result<(), Fault> {
    let now = work.now;
    let (tx, ledger) = work.rows::<Ledger>();
    if !ledger.has_forfeits() {
        return Ok(());
    }
    store::load_accounts(tx, ledger, &BTreeSet::from([POINTS_GRANTED])).await?;
    Ok(ledger.forfeit_points(now, new_id)?)
}

/// Erases the stored answers of members who closed their accounts.
async fn forget_answers(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let closed = messages.iter().filter_map(|envelope| match &envelope.message {
        Message::MemberClosed(closed) => Some(closed.member_id.0),
        _ => None,
    });
    Ok(idempotency::forget(&mut work.tx, "wallet", &closed.collect::<Vec<_>>()).await?)
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
            Message::WalletDebit(request) => causes.push((Cause::Pay, request.payment_id.0)),
            Message::WalletCredit(request) => causes.extend([(Cause::Pay, request.payment_id.0), (Cause::Refund, request.payment_id.0)]),
            Message::OrderConfirmed(order) => causes.push((Cause::Earn, order.order_id.0)),
            Message::OrderCancelled(order) => causes.extend([(Cause::Earn, order.order_id.0), (Cause::EarnBack, order.order_id.0)]),
            other => orders.extend(saga_tasks::<RequestToWallet<'_>>(other).map(|task| task.order_id)),
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
            Message::WalletDebit(request) | Message::WalletCredit(request) => accounts.extend([AccountKey::cash(request.member_id), SALES]),
            Message::MemberClosed(closed) => {
                accounts.extend([AccountKey::cash(closed.member_id), AccountKey::reward(closed.member_id), POINTS_GRANTED]);
            }
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
            other => {
                for task in saga_tasks(other) {
                    match task.action {
                        SagaAction::Do(RequestToWallet::PointsHold(request)) => {
                            accounts.insert(AccountKey::reward(request.member_id));
                        }
                        SagaAction::Undo(_) | SagaAction::Commit => {
                            // Without a stored hold, an earlier message of this group may make one, and the account of that message is
                            // loaded.
                            accounts.extend(ledger.hold(task.order_id)?.and_then(|hold| hold.member_id).map(AccountKey::reward));
                            accounts.insert(POINTS_SPENT);
                        }
                    }
                }
            }
        }
    }
    Ok(accounts)
}

/// Handles a message, and returns the answer to emit.
fn handle(wallet: &Wallet, ledger: &mut Ledger, message: &Message, at: Timestamp) -> Result<Option<Message>, Fault> {
    match message {
        Message::WalletDebit(request) => {
            let payment_id = request.payment_id;
            return Ok(Some(match ledger.debit(request, at)? {
                Ok(()) => Message::WalletDebited(WalletMoved { payment_id }),
                Err(refusal) => Message::WalletRefused(WalletRefused { payment_id, code: refusal.code, detail: refusal.detail }),
            }));
        }
        Message::WalletCredit(request) => {
            ledger.credit(request, at)?;
            return Ok(Some(Message::WalletCredited(WalletMoved { payment_id: request.payment_id })));
        }
        Message::OrderConfirmed(order) => ledger.earn(order, wallet.settings.earn_basis_points, at)?,
        Message::MemberClosed(closed) => ledger.close_member(closed.member_id, at)?,
        Message::OrderCancelled(order) => ledger.take_back_earned(order.order_id, order.member_id, at)?,
        other => return Ok(execute_tasks(ledger, other, at)?),
    }
    Ok(None)
}
