//! The hash chains of the ledger.

use super::{AuditCheck, ViolationFinder, copied::ORIGIN_TRIGGERS};
use contracts::{Timestamp, Won};
use kit::engine::HoldsWhen;
use rusqlite::Connection;
use std::collections::HashMap;
use uuid::Uuid;

pub fn check() -> AuditCheck {
    AuditCheck {
        id: "I-L4",
        when: HoldsWhen::Always,
        title: "the ledger is append-only: its triggers are in place and its hash chains unbroken",
        finder: ViolationFinder::Code(broken_chains),
    }
}

/// Triggers of SQLite that forbid changes of entries.
const SQLITE_TRIGGERS: &[&str] =
    &["wallet_entries_no_update", "wallet_entries_no_delete", "wallet_transactions_no_update", "wallet_transactions_no_delete"];
/// Triggers of PostgreSQL that forbid changes of entries.
const POSTGRES_TRIGGERS: &[&str] =
    &["wallet_entries_append_only", "wallet_entries_no_truncate", "wallet_transactions_append_only", "wallet_transactions_no_truncate"];

fn broken_chains(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    // A copy has its own triggers, so the check reads the list of triggers of the original database.
    let (triggers, exists) = match connection.table_exists(None, ORIGIN_TRIGGERS)? {
        true => (POSTGRES_TRIGGERS, format!("select count(*)=1 from {ORIGIN_TRIGGERS} where name=?1")),
        false => (SQLITE_TRIGGERS, "select count(*)=1 from sqlite_master where type='trigger' and name=?1".to_owned()),
    };
    for trigger in triggers {
        if !connection.query_row(&exists, [trigger], |row| row.get::<_, bool>(0))? {
            found.push(format!("trigger {trigger} is missing"));
        }
    }
    let mut last_hashes: HashMap<(Uuid, String), [u8; 32]> = HashMap::new();
    let mut statement =
        connection.prepare("select owner_id, kind, tx_id, n, amount, at, hash from wallet_entries order by owner_id, kind, n")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (owner, tx_id): (Uuid, Uuid) = (id(row, 0)?, id(row, 2)?);
        let (kind, n, amount, at): (String, i64, i64, i64) = (row.get(1)?, row.get(3)?, row.get(4)?, row.get(5)?);
        let hash: [u8; 32] = row.get(6)?;
        let previous = last_hashes.entry((owner, kind.clone())).or_insert(wallet::GENESIS);
        if wallet::ledger_hash(previous, tx_id, n, Won(amount), Timestamp(at)) != hash {
            found.push(format!("{owner} {kind} entry {n}: the chain is broken"));
        }
        *previous = hash;
    }
    let mut statement = connection.prepare("select owner_id, kind, head, entries from wallet_accounts")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (owner, kind, head, entries): (Uuid, String, [u8; 32], i64) = (id(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let last = last_hashes.get(&(owner, kind.clone()));
        if (entries > 0 || last.is_some()) && last != Some(&head) {
            found.push(format!("{owner} {kind}: the head is not the last entry's hash"));
        }
    }
    Ok(found)
}

fn id(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Uuid> {
    let bytes: Vec<u8> = row.get(index)?;
    Uuid::from_slice(&bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Blob, Box::new(error)))
}
