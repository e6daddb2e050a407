//! `catalog.create`: creates a product on sale, with its options and their stock. A seller in its own store, an operator in any.

use super::{MAX_DESCRIPTION, MAX_NAME, MAX_STOCK, MAX_UNPAID, OptionInput, SavedProduct, check_store, emit_skus_listed};
use crate::{
    Catalog,
    model::{DEFAULT_OPTION, MAX_OPTIONS, MAX_PRICE, NewOption, Product, SaleState},
    store,
};
use axum::{extract::State, response::Response};
use contracts::{Code, ProductId, Sku, StoreId, Timestamp, Won, calls::GetStoresOfSeller, ids::MALL_STORE, messages::StockPolicy};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::{Caller, Role},
    extract::Seller,
    http::{Input, Problem, ProblemBody, Trace, rules, text},
    ports::new_id,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProduct)]
pub struct ProductInput {
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(MAX_NAME)))]
    #[schema(max_length = 200)]
    name: String,
    #[serde(default, deserialize_with = "text::cleaned")]
    #[garde(custom(rules::long_text(MAX_DESCRIPTION)))]
    #[schema(max_length = 5_000)]
    description: String,
    /// In won.
    #[serde(deserialize_with = "contracts::money::whole_won")]
    #[garde(range(min = 0, max = MAX_PRICE))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    price: i64,
    /// A product without options gets one, named `default`.
    #[serde(default)]
    #[garde(custom(rules::items(MAX_OPTIONS)), dive)]
    #[schema(max_items = 100)]
    options: Vec<OptionInput>,
    /// Units on hand at the start of a product without options.
    #[garde(range(min = 0, max = MAX_STOCK))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    stock: Option<i64>,
    #[serde(default)]
    #[garde(skip)]
    stock_policy: StockPolicy,
    /// Most units of a SKU that a member's unpaid orders may reserve. 0: only orders with payment. Absent: the mall's default. For limited
    /// goods, set a number that members buy, or the policy `deduct_on_payment`, which reserves nothing before the payment.
    #[garde(range(max = MAX_UNPAID))]
    #[schema(maximum = 1_000_000)]
    max_unpaid_per_member: Option<u32>,
    /// Optional for a seller with one store, and for an operator, whose default is the mall's own store.
    #[garde(skip)]
    store_id: Option<StoreId>,
}

/// Creates a product on sale, with its options and their stock
///
/// A seller in its own store, an operator in any.
#[utoipa::path(post, path = "/v1/products", operation_id = "catalog.create", tag = "catalog",
    request_body = ProductInput,
    responses(
        (status = 201, body = SavedProduct),
        (status = 404, description = "the store does not exist, or is another seller's", body = ProblemBody),
        (status = 422, description = "amount-out-of-range: an option's price is negative or too high", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn create(
    State(catalog): State<Arc<Catalog>>,
    Seller(caller): Seller,
    trace: Trace,
    input: Input<ProductInput>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run_prepared(&catalog, key, trace, prepare(&catalog, &caller, input.value)).await
}

async fn prepare(catalog: &Catalog, caller: &Caller, mut input: ProductInput) -> Result<CreateProduct, Problem> {
    let options = options(&mut input)?;
    let store_id = match input.store_id {
        Some(store_id) => store_id,
        None => default_store(catalog, caller).await?,
    };
    check_store(catalog, caller, store_id).await?;
    let mut product = Product {
        id: ProductId(new_id()),
        store_id,
        name: input.name,
        description: input.description,
        price: Won(input.price),
        policy: input.stock_policy,
        max_unpaid: input.max_unpaid_per_member,
        state: SaleState::OnSale,
        created_at: Timestamp::default(),
        version: 1,
        options: Vec::new(),
    };
    product.add_options(&options, "/options").map_err(|invalid| Problem::field(invalid.pointer, invalid.code, invalid.message))?;
    Ok(CreateProduct { product, options })
}

fn options(input: &mut ProductInput) -> Result<Vec<NewOption>, Problem> {
    if input.options.is_empty() {
        let stock = input.stock.unwrap_or(0);
        return Ok(vec![NewOption { sku: Sku(new_id()), name: DEFAULT_OPTION.into(), price_delta: Won::ZERO, stock }]);
    }
    if input.stock.is_some() {
        return Err(Problem::field("/stock", Code::InvalidField, "each option has a stock of its own"));
    }
    Ok(std::mem::take(&mut input.options).into_iter().map(NewOption::from).collect())
}

/// The store of a request that names none.
async fn default_store(catalog: &Catalog, caller: &Caller) -> Result<StoreId, Problem> {
    if matches!(caller.role, Role::Operator) {
        return Ok(MALL_STORE);
    }
    let stores = catalog.kit.links.call(GetStoresOfSeller { seller_id: caller.member_id }).await?;
    match stores.as_slice() {
        [only] => Ok(only.store_id),
        [] => Err(Problem::field("/store_id", Code::InvalidField, "you have no store to sell in yet")),
        _ => Err(Problem::field("/store_id", Code::InvalidField, "is needed, because you have several stores")),
    }
}

struct CreateProduct {
    product: Product,
    options: Vec<NewOption>,
}

impl Command for CreateProduct {
    type Service = Catalog;
    const OPERATION: &'static str = "catalog.create";

    async fn handle<'a>(catalog: &'a Catalog, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let products: Vec<Product> = commands.iter().map(|command| Product { created_at: work.now, ..command.product.clone() }).collect();
        store::insert_products(&mut work.tx, &products.iter().collect::<Vec<_>>()).await?;
        let mut outcomes = Vec::with_capacity(products.len());
        for (product, command) in products.iter().zip(commands) {
            emit_skus_listed(work, product, &command.options)?;
            outcomes.push(Answer::json(201, &SavedProduct::from(product))?.at(format!("/v1/products/{}", product.id)).into());
        }
        work.after_commit(catalog.cache.invalidation(products.iter()));
        Ok(outcomes)
    }
}
