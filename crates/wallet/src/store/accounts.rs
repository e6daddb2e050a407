//! SQL over `wallet_accounts`.

use crate::model::{Account, AccountKey, AccountKind, Ledger};
use kit::{
    DbError, Fault, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use std::collections::BTreeSet;

impl FromRow for Account {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let kind: String = row.get(1)?;
        let kind = AccountKind::parse(&kind).ok_or_else(|| DbError::Column { index: 1, reason: format!("unknown kind {kind}") })?;
        Ok(Self {
            key: AccountKey { owner: row.get(0)?, kind },
            balance: row.get(2)?,
            held: row.get(3)?,
            entries: row.get(4)?,
            head: row.get(5)?,
            last_tx: row.get(6)?,
            version: row.get(7)?,
            closed_at: row.get(8)?,
        })
    }
}

/// Locks and loads the accounts that are not loaded yet, in the order of their keys, so that two writers never deadlock.
pub async fn load_accounts(tx: &mut Tx, ledger: &mut Ledger, keys: &BTreeSet<AccountKey>) -> Result<(), DbError> {
    let missing = ledger.accounts.missing(keys.iter().copied());
    if missing.is_empty() {
        return Ok(());
    }
    let sql = "select owner_id, kind, balance, held, entries, head, last_tx, version, closed_at from wallet_accounts \
               where owner_id=$1 and kind=$2 for update";
    let found: Vec<Account> = tx.query_many(sql, missing.iter().map(|key| params![key.owner, key.kind.as_str()])).await?;
    ledger.load_accounts(missing, found);
    Ok(())
}

/// Saves each account once, if its version is unchanged since the read. `Err`: another transaction opened or changed an account
/// meanwhile, so this one must be repeated.
pub async fn save_accounts(tx: &mut Tx, accounts: Changed<'_, Account>) -> Result<(), Fault> {
    let Changed { new, existing } = accounts;
    let sql = "update wallet_accounts set balance=$3, held=$4, entries=$5, head=$6, last_tx=$7, version=$8+1, closed_at=$9 \
               where owner_id=$1 and kind=$2 and version=$8";
    let saved = tx.execute_many(sql, existing.iter().map(|account| row(account))).await?;
    let sql = "insert into wallet_accounts (owner_id, kind, balance, held, entries, head, last_tx, version, closed_at) \
               values ($1,$2,$3,$4,$5,$6,$7,$8+1,$9) on conflict (owner_id, kind) do nothing";
    let opened = tx.execute_many(sql, new.iter().map(|account| row(account))).await?;
    for (rows, account) in saved.into_iter().zip(existing).chain(opened.into_iter().zip(new)) {
        if rows != 1 {
            return Err(DbError::Retry(format!("account {:?} was changed since it was read", account.key)).into());
        }
        account.version += 1;
    }
    Ok(())
}

fn row(account: &Account) -> [kit::Param<'_>; 9] {
    params![
        account.key.owner,
        account.key.kind.as_str(),
        account.balance,
        account.held,
        account.entries,
        &account.head,
        account.last_tx,
        account.version,
        account.closed_at
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{MemberId, Timestamp, Won};
    use kit::{Db, db::Synchronous};
    use testkit::TempFolder;
    use uuid::Uuid;

    async fn loaded(tx: &mut Tx, keys: &BTreeSet<AccountKey>) -> Ledger {
        let mut ledger = Ledger::default();
        load_accounts(tx, &mut ledger, keys).await.expect("loads");
        ledger
    }

    async fn save(tx: &mut Tx, mut ledger: Ledger) -> Result<(), Fault> {
        save_accounts(tx, ledger.accounts.take_changed()).await
    }

    fn charge(ledger: &mut Ledger, member_id: MemberId, amount: i64) {
        let cash = ledger.charge(Uuid::from_u128(amount.unsigned_abs().into()), member_id, Won(amount), Timestamp(1));
        assert!(matches!(cash, Ok(Ok(_))));
    }

    // B5, optimistic variant: of two changes based on one read, the second changes no row. Covers new accounts, transfers and holds.
    #[tokio::test]
    async fn a_stale_save_changes_no_row() {
        let folder = TempFolder::new();
        let mut tx = Db::sqlite(folder.path().join("wallet.db"), Synchronous::Normal).open_writer().await.expect("opens");
        tx.batch(include_str!("../../migrations/V1__init.sql")).await.expect("migrates");
        tx.batch(include_str!("../../migrations/V4__closing.sql")).await.expect("migrates");
        let member_id = MemberId(Uuid::from_u128(3));
        let keys = BTreeSet::from([AccountKey::cash(member_id), crate::model::CASH_IN]);
        for (round, expected) in [1_000, 4_000].into_iter().enumerate() {
            let mut first = loaded(&mut tx, &keys).await;
            let mut second = loaded(&mut tx, &keys).await;
            charge(&mut first, member_id, expected - [0, 1_000][round]);
            charge(&mut second, member_id, 9_000);
            save(&mut tx, first).await.expect("the first change is saved");
            assert!(matches!(save(&mut tx, second).await, Err(Fault::Db(DbError::Retry(_)))));
            let now = loaded(&mut tx, &keys).await;
            assert_eq!(now.account(AccountKey::cash(member_id)).expect("loaded").balance, Won(expected));
        }
        // A hold adds no entry, but it changes the version.
        let mut account = loaded(&mut tx, &keys).await.account(AccountKey::cash(member_id)).expect("loaded").clone();
        account.hold(Won(10)).expect("covered");
        let mut stale = account.clone();
        save_accounts(&mut tx, Changed { new: vec![], existing: vec![&mut account] }).await.expect("saved");
        assert!(save_accounts(&mut tx, Changed { new: vec![], existing: vec![&mut stale] }).await.is_err());
        // After a save, the same transaction may change the account again.
        account.hold(Won(10)).expect("covered");
        save_accounts(&mut tx, Changed { new: vec![], existing: vec![&mut account] }).await.expect("saved again");
    }
}
