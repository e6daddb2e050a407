//! SQL of carts.

use crate::model::Cart;
use contracts::{MemberId, Sku};
use kit::{DbError, Tx, params};

/// Loads a cart with one statement, so that the items belong to the version. `None`: the member never had one.
pub async fn cart(tx: &mut Tx, member_id: MemberId) -> Result<Option<Cart>, DbError> {
    let sql = "select c.version, i.sku, i.quantity from orders_carts c left join orders_cart_items i on i.member_id=c.member_id \
               where c.member_id=$1 order by i.sku";
    let rows: Vec<(i64, Option<Sku>, Option<u32>)> = tx.query(sql, &params![member_id]).await?;
    let Some((version, ..)) = rows.first() else { return Ok(None) };
    let version = *version;
    Ok(Some(Cart { version, items: rows.into_iter().filter_map(|(_, sku, quantity)| sku.zip(quantity)).collect() }))
}

/// Locks and loads a cart.
pub async fn cart_for_update(tx: &mut Tx, member_id: MemberId) -> Result<Option<Cart>, DbError> {
    let _: Option<(i64,)> = tx.query_opt("select version from orders_carts where member_id=$1 for update", &params![member_id]).await?;
    cart(tx, member_id).await
}

/// Writes the changes of a cart since `before`, under its row lock. When two transactions create a member's cart, the primary key refuses
/// the second.
pub async fn save_cart(tx: &mut Tx, member_id: MemberId, before: &Cart, cart: &Cart) -> Result<(), DbError> {
    if before.version == 0 {
        tx.execute("insert into orders_carts (member_id, version) values ($1,$2)", &params![member_id, cart.version]).await?;
    } else {
        let sql = "update orders_carts set version=$2 where member_id=$1 and version=$3";
        if tx.execute(sql, &params![member_id, cart.version, before.version]).await? != 1 {
            return Err(DbError::Retry("another transaction changed the cart".into()));
        }
    }
    let removed = before.items.keys().filter(|sku| !cart.items.contains_key(sku));
    let sql = "delete from orders_cart_items where member_id=$1 and sku=$2";
    tx.execute_many(sql, removed.map(|sku| params![member_id, *sku])).await?;
    let changed = cart.items.iter().filter(|(sku, quantity)| before.items.get(sku) != Some(quantity));
    let sql = "insert into orders_cart_items (member_id, sku, quantity) values ($1,$2,$3) \
               on conflict (member_id, sku) do update set quantity=excluded.quantity";
    tx.execute_many(sql, changed.map(|(sku, quantity)| params![member_id, *sku, *quantity])).await?;
    Ok(())
}
