//! All SQL of stock. Loads rows into [`LoadedStock`] and saves its changes; decides nothing.
//!
//! Several processes may write. A transaction locks the rows that its decisions depend on, from the read to the commit: first
//! `stock_reservations`, then `stock_items`, and by key within a table. The row of a reservation also protects its `stock_holds`,
//! the row of an item the numbers of its `stock_movements`. A row that does not exist yet cannot be locked. If two transactions
//! insert the same new row, the primary key refuses the second, which is repeated and finds the row of the first.

use crate::model::{LineState, LoadedStock, Movement, Reservation, ReservationLine, ReservationState, StockItem, StockStepOutcome};
use contracts::{Code, OrderId, Refusal, Sku, Timestamp, messages::StockPolicy};
use kit::{
    Fault,
    db::{DbError, FromRow, Row, Tx, params},
    rows::Changed,
};
use std::collections::HashMap;

impl FromRow for StockItem {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let policy: String = row.get(3)?;
        Ok(Self {
            sku: row.get(0)?,
            product_id: row.get(1)?,
            store_id: row.get(2)?,
            policy: StockPolicy::parse(&policy).ok_or_else(|| unknown_word(3, &policy))?,
            on_hand: row.get(4)?,
            reserved: row.get(5)?,
            sold: row.get(6)?,
            moves: row.get(7)?,
        })
    }
}

impl FromRow for Reservation {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(1)?;
        let refusal = match (row.get::<Option<String>>(4)?, row.get::<Option<String>>(5)?) {
            (Some(code), Some(detail)) => Some(Refusal::new(Code::from_slug(&code).ok_or_else(|| unknown_word(4, &code))?, detail)),
            _ => None,
        };
        let step = |index: usize| {
            Ok::<_, DbError>(match row.get::<Option<String>>(index)?.as_deref() {
                None => None,
                Some("DONE") => Some(StockStepOutcome::Done),
                Some(other) => Some(StockStepOutcome::Refused(refusal.clone().ok_or_else(|| unknown_word(index, other))?)),
            })
        };
        Ok(Self {
            order_id: row.get(0)?,
            state: ReservationState::parse(&state).ok_or_else(|| unknown_word(1, &state))?,
            reserve: step(2)?,
            take: step(3)?,
            expires_at: row.get(6)?,
            lines: Vec::new(),
        })
    }
}

fn unknown_word(index: usize, text: &str) -> DbError {
    DbError::Column { index, reason: format!("{text} is not a known word") }
}

/// Reads one item without a lock.
pub async fn item(tx: &mut Tx, sku: Sku) -> Result<Option<StockItem>, DbError> {
    let sql = "select sku, product_id, store_id, policy, on_hand, reserved, sold, moves from stock_items where sku=$1";
    tx.query_opt(sql, &params![sku]).await
}

/// Units of each SKU that can be ordered now. Unknown SKUs are missing.
pub async fn available(tx: &mut Tx, skus: &[Sku]) -> Result<Vec<(Sku, i64)>, DbError> {
    tx.query_many("select sku, on_hand - reserved from stock_items where sku=$1", skus.iter().map(|sku| params![*sku])).await
}

/// Locks and loads the items that are not loaded yet.
pub async fn load_items(tx: &mut Tx, loaded: &mut LoadedStock, skus: Vec<Sku>) -> Result<(), DbError> {
    let missing = loaded.items.missing(skus);
    let sql = "select sku, product_id, store_id, policy, on_hand, reserved, sold, moves from stock_items where sku=$1 for update";
    let found: Vec<StockItem> = tx.query_many(sql, missing.iter().map(|sku| params![*sku])).await?;
    loaded.items.add_found(missing, found.into_iter().map(|item| (item.sku, item)));
    Ok(())
}

/// Locks and loads the reservations that are not loaded yet. Returns the SKUs of their lines.
pub async fn load_orders(tx: &mut Tx, loaded: &mut LoadedStock, orders: Vec<OrderId>) -> Result<Vec<Sku>, DbError> {
    let missing = loaded.orders.missing(orders);
    let sql = "select order_id, state, reserve_step, take_step, refusal_code, refusal, expires_at \
               from stock_reservations where order_id=$1 for update";
    let mut found: Vec<Reservation> = tx.query_many(sql, missing.iter().map(|order_id| params![*order_id])).await?;
    let skus = load_lines(tx, &mut found).await?;
    loaded.orders.add_found(missing, found.into_iter().map(|reservation| (reservation.order_id, reservation)));
    Ok(skus)
}

type LineRow = (OrderId, u32, Sku, i64);

/// Loads the held lines of held orders, and the sold lines of committed ones.
async fn load_lines(tx: &mut Tx, reservations: &mut [Reservation]) -> Result<Vec<Sku>, DbError> {
    let in_state = |state: ReservationState| reservations.iter().filter(move |row| row.state == state).map(|row| params![row.order_id]);
    let held_sql = "select order_id, line_no, sku, quantity from stock_holds where order_id=$1 and state='ACTIVE' order by line_no";
    let held: Vec<LineRow> = tx.query_many(held_sql, in_state(ReservationState::Held)).await?;
    let sold_sql = "select order_id, line_no, sku, -quantity from stock_movements \
                    where order_id=$1 and kind='SALE' order by line_no";
    let sold: Vec<LineRow> = tx.query_many(sold_sql, in_state(ReservationState::Committed)).await?;
    let skus = held.iter().chain(&sold).map(|(_, _, sku, _)| *sku).collect();

    let mut lines: HashMap<OrderId, Vec<ReservationLine>> = HashMap::new();
    let states = [(held, LineState::Active), (sold, LineState::Committed)];
    for (rows, state) in states {
        for (order_id, line_no, sku, quantity) in rows {
            lines.entry(order_id).or_default().push(ReservationLine { line_no, sku, quantity, state, stored: Some(state) });
        }
    }
    for reservation in reservations {
        reservation.lines = lines.remove(&reservation.order_id).unwrap_or_default();
    }
    Ok(skus)
}

/// Writes each changed row once. Returns the available units of the changed items.
pub async fn save(tx: &mut Tx, loaded: &mut LoadedStock) -> Result<Vec<(Sku, i64)>, Fault> {
    let items = loaded.items.take_changed();
    save_items(tx, &items).await?;
    insert_movements(tx, &std::mem::take(&mut loaded.movements)).await?;
    let mut reservations = loaded.orders.take_changed();
    save_reservations(tx, &reservations).await?;
    save_holds(tx, &mut reservations).await?;
    Ok(items.new.iter().chain(&items.existing).map(|item| (item.sku, item.available())).collect())
}

async fn save_items(tx: &mut Tx, items: &Changed<'_, StockItem>) -> Result<(), Fault> {
    let insert = "insert into stock_items (sku, product_id, store_id, policy, on_hand, reserved, sold, moves) \
                  values ($1,$2,$3,$4,$5,$6,$7,$8)";
    let rows = items.new.iter().map(|item| {
        params![item.sku, item.product_id, item.store_id, item.policy.as_str(), item.on_hand, item.reserved, item.sold, item.moves]
    });
    tx.execute_many(insert, rows).await?;
    let update = "update stock_items set on_hand=$2, reserved=$3, sold=$4, moves=$5 where sku=$1";
    let rows = items.existing.iter().map(|item| params![item.sku, item.on_hand, item.reserved, item.sold, item.moves]);
    check_all_updated(&tx.execute_many(update, rows).await?, "stock_items")
}

async fn insert_movements(tx: &mut Tx, movements: &[Movement]) -> Result<(), Fault> {
    let sql = "insert into stock_movements (sku, n, kind, quantity, order_id, line_no, reason, at) values ($1,$2,$3,$4,$5,$6,$7,$8)";
    let rows = movements.iter().map(|movement| {
        let order_id = movement.cause.map(|(order_id, _)| order_id);
        let line_no = movement.cause.map(|(_, line_no)| line_no);
        let reason = movement.reason.as_deref();
        params![movement.sku, movement.n, movement.kind.as_str(), movement.quantity, order_id, line_no, reason, movement.at]
    });
    tx.execute_many(sql, rows).await?;
    Ok(())
}

async fn save_reservations(tx: &mut Tx, reservations: &Changed<'_, Reservation>) -> Result<(), Fault> {
    let insert = "insert into stock_reservations (order_id, state, reserve_step, take_step, refusal_code, refusal, expires_at) \
                  values ($1,$2,$3,$4,$5,$6,$7)";
    tx.execute_many(insert, reservations.new.iter().map(|row| reservation_params(row))).await?;
    let update = "update stock_reservations set state=$2, reserve_step=$3, take_step=$4, refusal_code=$5, refusal=$6, expires_at=$7 \
                  where order_id=$1";
    let rows = reservations.existing.iter().map(|row| reservation_params(row));
    check_all_updated(&tx.execute_many(update, rows).await?, "stock_reservations")
}

fn reservation_params(row: &Reservation) -> [kit::Param<'_>; 7] {
    let step = |step: &Option<StockStepOutcome>| {
        step.as_ref().map(|step| match step {
            StockStepOutcome::Done => "DONE",
            StockStepOutcome::Refused(_) => "REFUSED",
        })
    };
    let refusal = row.refusal();
    let (code, detail) = (refusal.map(|refusal| refusal.code.slug()), refusal.map(|refusal| refusal.detail.as_str()));
    params![row.order_id, row.state.as_str(), step(&row.reserve), step(&row.take), code, detail, row.expires_at]
}

/// Inserts holds that outlive this transaction, and updates earlier holds that ended. A hold that began and ended here is not written.
async fn save_holds(tx: &mut Tx, reservations: &mut Changed<'_, Reservation>) -> Result<(), Fault> {
    let all = || reservations.existing.iter().chain(&reservations.new);
    let lines = || all().flat_map(|row| row.lines.iter().map(|line| (row.order_id, line)));
    let insert = "insert into stock_holds (order_id, line_no, sku, quantity, state) values ($1,$2,$3,$4,$5)";
    let rows = lines()
        .filter(|(_, line)| line.stored.is_none() && line.state == LineState::Active)
        .map(|(order_id, line)| params![order_id, line.line_no, line.sku, line.quantity, line.state.as_str()]);
    tx.execute_many(insert, rows).await?;
    let update = "update stock_holds set state=$3 where order_id=$1 and line_no=$2 and state='ACTIVE'";
    let rows = lines()
        .filter(|(_, line)| line.stored.is_some_and(|stored| stored != line.state))
        .map(|(order_id, line)| params![order_id, line.line_no, line.state.as_str()]);
    check_all_updated(&tx.execute_many(update, rows).await?, "stock_holds")?;
    for line in reservations.existing.iter_mut().chain(&mut reservations.new).flat_map(|row| &mut row.lines) {
        line.mark_saved();
    }
    Ok(())
}

/// Checks that each update found its row, which this transaction has locked.
fn check_all_updated(changed: &[u64], table: &str) -> Result<(), Fault> {
    match changed.iter().all(|rows| *rows == 1) {
        true => Ok(()),
        false => Err(Fault::Bug(format!("a row of {table} locked by this transaction is missing"))),
    }
}

/// The number of orders whose holds expired before `before`, and the earliest of their deadlines.
pub async fn overdue(tx: &mut Tx, before: Timestamp) -> Result<(i64, Option<Timestamp>), DbError> {
    tx.query_one("select count(*), min(expires_at) from stock_reservations where state='HELD' and expires_at < $1", &params![before]).await
}
