//! All SQL of the catalogue. Loads and saves; decides nothing.
//!
//! Several processes may write. A transaction locks products in the order of their ids, from the read to the commit.
//! The row of a product also protects its options.

use crate::model::{Product, ProductFilter, ProductOption, ProductPosition, SaleState, Sort};
use contracts::{ProductId, Sku, StoreId, Won, calls::PricedSku, messages::StockPolicy};
use kit::{
    Fault,
    db::{DbError, FromRow, Param, Row, Tx, params},
    http::text,
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

/// Products that one request looks at, in the order of the list, before its page ends early. It bounds a search to some milliseconds.
const MAX_LOOKED_AT: u32 = 5_000;

/// The products of a page. `next`: the last product looked at, if more follow it.
#[derive(Debug, Default)]
pub struct FoundProducts {
    pub positions: Vec<ProductPosition>,
    pub next: Option<ProductPosition>,
}

/// One page of products on sale, in order. With a filter by name or price, it looks at a bounded number of products. Then the page may be
/// short or empty although more follow.
pub async fn list(tx: &mut Tx, filter: &ProductFilter, after: Option<ProductPosition>, limit: u32) -> Result<FoundProducts, DbError> {
    let mut scope = ListSql::of(filter, after);
    let mut last_looked_at = None;
    if filter.passes_over() {
        last_looked_at = scope.nth(tx, MAX_LOOKED_AT).await?;
    }
    if let Some(last) = last_looked_at {
        scope.end_at(last);
    }
    let pattern = filter.q.as_deref().map(like_pattern);
    scope.narrow(filter, pattern.as_deref());
    // One more than a page tells if another follows.
    let mut positions = scope.first(tx, limit + 1).await?;
    let mut next = last_looked_at;
    if positions.len() > limit as usize {
        positions.truncate(limit as usize);
        next = positions.last().copied();
    }
    Ok(FoundProducts { positions, next })
}

/// A query of the product list in the making.
struct ListSql<'p> {
    conditions: String,
    params: Vec<Param<'p>>,
    /// Column of the order, and its direction.
    column: &'static str,
    is_descending: bool,
}

struct PositionRow(ProductPosition);

impl FromRow for PositionRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(ProductPosition { value: row.get(0)?, id: row.get(1)? }))
    }
}

impl<'p> ListSql<'p> {
    /// The products behind `after`, by the conditions that an index serves.
    fn of(filter: &ProductFilter, after: Option<ProductPosition>) -> Self {
        let (column, is_descending) = match filter.sort {
            Sort::Newest => ("created_at", true),
            Sort::Oldest => ("created_at", false),
            Sort::PriceAsc => ("lowest_price", false),
            Sort::PriceDesc => ("lowest_price", true),
        };
        let mut sql = Self { conditions: "state='on_sale'".into(), params: Vec::new(), column, is_descending };
        if let Some(store) = filter.store {
            sql.and("store_id=", Param::from(store));
        }
        if let (Some(price), "lowest_price") = (filter.max_price, column) {
            sql.and("lowest_price<=", Param::from(price));
        }
        if let Some(after) = after {
            sql.compare(if is_descending { "<" } else { ">" }, after);
        }
        sql
    }

    fn and(&mut self, condition: &str, param: Param<'p>) {
        self.params.push(param);
        let _ = write!(self.conditions, " and {condition}${}", self.params.len());
    }

    fn compare(&mut self, operator: &str, position: ProductPosition) {
        self.params.extend([Param::Int(position.value), Param::from(position.id)]);
        let (column, value, id) = (self.column, self.params.len() - 1, self.params.len());
        let _ = write!(self.conditions, " and ({column}, id) {operator} (${value}, ${id})");
    }

    /// Leaves out the products behind this one.
    fn end_at(&mut self, last: ProductPosition) {
        self.compare(if self.is_descending { ">=" } else { "<=" }, last);
    }

    /// Adds the conditions that no index serves. A product has prices in a range, which must overlap with the wanted range. The plus signs
    /// keep the databases from another index, whose rows would need sorting.
    fn narrow(&mut self, filter: &ProductFilter, pattern: Option<&'p str>) {
        if let Some(price) = filter.min_price {
            self.and("+highest_price>=", Param::from(price));
        }
        if let Some(price) = filter.max_price {
            self.and("+lowest_price<=", Param::from(price));
        }
        if let Some(pattern) = pattern {
            self.and("search_name like ", Param::from(pattern));
            self.conditions.push_str(" escape '\\'");
        }
    }

    fn text(&self) -> String {
        let (column, direction) = (self.column, if self.is_descending { "desc" } else { "asc" });
        format!("select {column}, id from catalog_products where {} order by {column} {direction}, id {direction}", self.conditions)
    }

    /// The position of the nth product. `None`: there are fewer.
    async fn nth(&self, tx: &mut Tx, n: u32) -> Result<Option<ProductPosition>, DbError> {
        let sql = format!("{} limit 1 offset {}", self.text(), n - 1);
        let found: Option<PositionRow> = tx.query_opt(&sql, &self.params).await?;
        Ok(found.map(|PositionRow(position)| position))
    }

    async fn first(&self, tx: &mut Tx, count: u32) -> Result<Vec<ProductPosition>, DbError> {
        let sql = format!("{} limit ${}", self.text(), self.params.len() + 1);
        let params: Vec<Param<'_>> = self.params.iter().copied().chain([Param::from(count)]).collect();
        let found: Vec<PositionRow> = tx.query(&sql, &params).await?;
        Ok(found.into_iter().map(|PositionRow(position)| position).collect())
    }
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

/// Products whose summary an earlier binary left behind.
pub async fn unsummarized(tx: &mut Tx, limit: u32) -> Result<Vec<ProductId>, DbError> {
    let sql = "select id from catalog_products where summary_version <> version limit $1";
    let found: Vec<(ProductId,)> = tx.query(sql, &params![limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

pub async fn insert_products(tx: &mut Tx, products: &[&Product]) -> Result<(), DbError> {
    let sql = "insert into catalog_products (id, store_id, name, search_name, description, price, policy, state, created_at, version, \
               lowest_price, highest_price, summary_version, max_unpaid) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$10,$13)";
    let names: Vec<String> = products.iter().map(|product| text::fold(&product.name)).collect();
    let rows = products.iter().zip(&names).map(|(p, folded)| {
        let (policy, state, lowest, highest) = (p.policy.as_str(), p.state.as_str(), p.lowest_price(), p.highest_price());
        params![
            p.id,
            p.store_id,
            &p.name,
            folded,
            &p.description,
            p.price,
            policy,
            state,
            p.created_at,
            p.version,
            lowest,
            highest,
            p.max_unpaid
        ]
    });
    tx.execute_many(sql, rows).await?;
    upsert_options(tx, &options_of(products, false)).await
}

/// Updates products that this transaction has locked.
pub async fn update_products(tx: &mut Tx, products: &[&Product]) -> Result<(), Fault> {
    let sql = "update catalog_products set name=$2, search_name=$3, description=$4, price=$5, state=$6, version=$7, lowest_price=$8, \
               highest_price=$9, summary_version=$7, max_unpaid=$10 where id=$1";
    let names: Vec<String> = products.iter().map(|product| text::fold(&product.name)).collect();
    let rows = products.iter().zip(&names).map(|(p, folded)| {
        let (state, lowest, highest) = (p.state.as_str(), p.lowest_price(), p.highest_price());
        params![p.id, &p.name, folded, &p.description, p.price, state, p.version, lowest, highest, p.max_unpaid]
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
