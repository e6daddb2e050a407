//! All SQL of the catalogue. Loads and saves; decides nothing.
//!
//! Several processes may write. A transaction locks products in the order of their ids, from the read to the commit.
//! The row of a product also protects its options.

use crate::model::{Product, ProductFilter, ProductOption, ProductPosition, SaleState, Sort};
use contracts::{ProductId, Sku, StoreId, Won, calls::PricedSku, messages::StockPolicy};
use kit::{
    Fault,
    db::{DbError, FromRow, Param, Row, Tx, params},
};
use std::{collections::HashMap, fmt::Write};

macro_rules! product_sql {
    () => {
        "select id, store_id, name, description, price, policy, state, created_at, version, max_unpaid from catalog_products where id=$1"
    };
}
const OPTIONS_SQL: &str =
    "select product_id, sku, position, name, price_delta, deleted from catalog_options where product_id=$1 order by position";

impl FromRow for Product {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.get(0)?,
            store_id: row.get(1)?,
            name: row.get(2)?,
            description: row.get(3)?,
            price: row.get(4)?,
            policy: parse_column(row, 5, StockPolicy::parse)?,
            state: parse_column(row, 6, SaleState::parse)?,
            created_at: row.get(7)?,
            version: row.get(8)?,
            max_unpaid: row.get(9)?,
            options: Vec::new(),
        })
    }
}

struct OptionRow(ProductId, ProductOption);

impl FromRow for OptionRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (sku, position, name, price_delta, deleted) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(Self(row.get(0)?, ProductOption { sku, position, name, price_delta, deleted }))
    }
}

fn parse_column<T>(row: &Row<'_>, index: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, DbError> {
    let text: String = row.get(index)?;
    parse(&text).ok_or_else(|| DbError::Column { index, reason: format!("{text} is not a known word") })
}

/// Reads products with their options, in the given order, without a lock. Unknown products are missing.
pub async fn products(tx: &mut Tx, ids: &[ProductId]) -> Result<Vec<Product>, DbError> {
    let found = tx.query_many(product_sql!(), ids.iter().map(|id| params![*id])).await?;
    with_options(tx, found).await
}

/// Locks products with their options, to change them. Sorted, so that all transactions lock in one order.
pub async fn lock_products(tx: &mut Tx, mut ids: Vec<ProductId>) -> Result<HashMap<ProductId, Product>, DbError> {
    ids.sort_unstable();
    ids.dedup();
    let found = tx.query_many(concat!(product_sql!(), " for update"), ids.iter().map(|id| params![*id])).await?;
    Ok(with_options(tx, found).await?.into_iter().map(|product| (product.id, product)).collect())
}

async fn with_options(tx: &mut Tx, mut products: Vec<Product>) -> Result<Vec<Product>, DbError> {
    let options: Vec<OptionRow> = tx.query_many(OPTIONS_SQL, products.iter().map(|product| params![product.id])).await?;
    let mut options = options.into_iter().peekable();
    for product in &mut products {
        while let Some(OptionRow(_, option)) = options.next_if(|OptionRow(of, _)| *of == product.id) {
            product.options.push(option);
        }
    }
    Ok(products)
}

/// The store of a product, deleted products included.
pub async fn store_of(tx: &mut Tx, id: ProductId) -> Result<Option<StoreId>, DbError> {
    let found: Option<(StoreId,)> = tx.query_opt("select store_id from catalog_products where id=$1", &params![id]).await?;
    Ok(found.map(|(store_id,)| store_id))
}

/// Prices of these SKUs. A SKU that cannot be bought is missing.
pub async fn prices(tx: &mut Tx, skus: &[Sku]) -> Result<Vec<PricedSku>, DbError> {
    let sql = "select o.sku, p.id, p.store_id, p.name, o.name, p.price + o.price_delta, p.policy, p.max_unpaid \
               from catalog_options o join catalog_products p on p.id=o.product_id \
               where o.sku=$1 and not o.deleted and p.state='on_sale'";
    let rows: Vec<PricedSkuRow> = tx.query_many(sql, skus.iter().map(|sku| params![*sku])).await?;
    Ok(rows.into_iter().map(|PricedSkuRow(priced)| priced).collect())
}

struct PricedSkuRow(PricedSku);

impl FromRow for PricedSkuRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let name = full_name(row.get(3)?, &row.get::<String>(4)?);
        let (sku, product_id, store_id, price) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get::<Won>(5)?);
        let (policy, max_unpaid) = (parse_column(row, 6, StockPolicy::parse)?, row.get(7)?);
        Ok(Self(PricedSku { sku, product_id, store_id, name, price, policy, max_unpaid }))
    }
}

/// The name of a product with its option. The default option is left out.
fn full_name(product: String, option: &str) -> String {
    if option == crate::model::DEFAULT_OPTION { product } else { format!("{product} / {option}") }
}

/// The ids of one page of products on sale, in order. Reads one more than `limit`, to tell if another page follows.
pub async fn list(tx: &mut Tx, filter: &ProductFilter, after: Option<ProductPosition>, limit: u32) -> Result<Vec<ProductId>, DbError> {
    let (column, direction, beyond) = match filter.sort {
        Sort::Newest => ("created_at", "desc", "<"),
        Sort::Oldest => ("created_at", "asc", ">"),
        Sort::PriceAsc => ("price", "asc", ">"),
        Sort::PriceDesc => ("price", "desc", "<"),
    };
    let pattern = filter.q.as_deref().map(like_pattern);
    let mut params: Vec<Param<'_>> = Vec::new();
    let mut sql = String::from("select id from catalog_products where state='on_sale'");
    let conditions: [(&str, Option<Param<'_>>); 4] = [
        ("store_id=", filter.store.map(Param::from)),
        ("price>=", filter.min_price.map(Param::from)),
        ("price<=", filter.max_price.map(Param::from)),
        ("search_name like ", pattern.as_ref().map(Param::from)),
    ];
    for (condition, param) in conditions {
        let Some(param) = param else { continue };
        params.push(param);
        let _ = write!(sql, " and {condition}${}", params.len());
    }
    if pattern.is_some() {
        sql.push_str(" escape '\\'");
    }
    if let Some(ProductPosition { value, id }) = after {
        params.extend([Param::Int(value), Param::from(id)]);
        let _ = write!(sql, " and ({column}, id) {beyond} (${}, ${})", params.len() - 1, params.len());
    }
    params.push(Param::from(limit + 1));
    let _ = write!(sql, " order by {column} {direction}, id {direction} limit ${}", params.len());
    let found: Vec<(ProductId,)> = tx.query(&sql, &params).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Matches the text anywhere in a name, with wildcards escaped.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

pub async fn insert_products(tx: &mut Tx, products: &[&Product]) -> Result<(), DbError> {
    let sql = "insert into catalog_products (id, store_id, name, search_name, description, price, policy, state, created_at, version, max_unpaid) \
               values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)";
    let names: Vec<String> = products.iter().map(|product| product.name.to_lowercase()).collect();
    let rows = products.iter().zip(&names).map(|(p, lower)| {
        let (policy, state) = (p.policy.as_str(), p.state.as_str());
        params![p.id, p.store_id, &p.name, lower, &p.description, p.price, policy, state, p.created_at, p.version, p.max_unpaid]
    });
    tx.execute_many(sql, rows).await?;
    upsert_options(tx, &options_of(products, false)).await
}

/// Updates products that this transaction has locked.
pub async fn update_products(tx: &mut Tx, products: &[&Product]) -> Result<(), Fault> {
    let sql =
        "update catalog_products set name=$2, search_name=$3, description=$4, price=$5, state=$6, version=$7, max_unpaid=$8 where id=$1";
    let names: Vec<String> = products.iter().map(|product| product.name.to_lowercase()).collect();
    let rows = products.iter().zip(&names).map(|(product, lower)| {
        let state = product.state.as_str();
        params![product.id, &product.name, lower, &product.description, product.price, state, product.version, product.max_unpaid]
    });
    if tx.execute_many(sql, rows).await?.iter().any(|rows| *rows != 1) {
        return Err(Fault::Bug("a product locked by this transaction is missing".into()));
    }
    // Removed options first, because a new option may have the name of a removed one.
    upsert_options(tx, &options_of(products, true)).await?;
    upsert_options(tx, &options_of(products, false)).await?;
    Ok(())
}

fn options_of<'p>(products: &[&'p Product], deleted: bool) -> Vec<(ProductId, &'p ProductOption)> {
    let options = products.iter().flat_map(|product| product.options.iter().map(|option| (product.id, option)));
    options.filter(|(_, option)| option.deleted == deleted).collect()
}

async fn upsert_options(tx: &mut Tx, options: &[(ProductId, &ProductOption)]) -> Result<(), DbError> {
    let sql = "insert into catalog_options (sku, product_id, position, name, price_delta, deleted) values ($1,$2,$3,$4,$5,$6) \
               on conflict (sku) do update set deleted=excluded.deleted";
    let rows = options.iter().map(|(product_id, o)| params![o.sku, *product_id, o.position, &o.name, o.price_delta, o.deleted]);
    tx.execute_many(sql, rows).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // P2 row 20
    #[test]
    fn search_text_is_matched_literally() {
        assert_eq!(like_pattern(r"50%_\"), r"%50\%\_\\%");
        assert_eq!(like_pattern("' or 1=1--"), "%' or 1=1--%");
    }

    #[test]
    fn the_default_option_is_left_out_of_the_name() {
        assert_eq!(full_name("Merlot".into(), "default"), "Merlot");
        assert_eq!(full_name("Merlot".into(), "magnum"), "Merlot / magnum");
    }
}
