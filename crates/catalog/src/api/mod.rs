//! The routes of the catalogue. Anyone reads; sellers write in their own stores, operators in all.

mod create;
mod delete;
mod get;
mod list;
mod update;

use crate::{
    Catalog,
    model::{Invalid, MAX_PRICE, NewOption, Product},
    store,
};
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use contracts::{
    Code, Message, ProductId, Refusal, Sku, StoreId, Timestamp, Won,
    calls::GetStore,
    messages::{SkuListed, SkusListed, StockPolicy},
};
use garde::Validate;
use kit::{
    Answer, Fault, Outcome, Work,
    auth::{Caller, Role},
    http::{FieldError, Problem, problem_body, rules, text},
    ports::new_id,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest name of a product or an option.
const MAX_NAME: usize = 200;
/// Longest description: a page of text.
const MAX_DESCRIPTION: usize = 5_000;
/// Most units of one SKU; the stock service has the same limit.
const MAX_STOCK: i64 = 1_000_000_000;
/// Largest limit on unpaid units: more than the largest order of a SKU, 100 lines of 1,000 units.
const MAX_UNPAID: u32 = 1_000_000;

pub fn router(catalog: Arc<Catalog>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, update::update, delete::delete))
        .with_state(catalog)
}

/// An option to create.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProductOption)]
pub struct OptionInput {
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(MAX_NAME)))]
    #[schema(max_length = 200)]
    name: String,
    /// Added to the product's price; may be negative.
    #[serde(default, deserialize_with = "contracts::money::whole_won")]
    #[garde(range(min = -MAX_PRICE, max = MAX_PRICE))]
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    price_delta: i64,
    /// Units on hand at the start.
    #[serde(default)]
    #[garde(range(min = 0, max = MAX_STOCK))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    stock: i64,
}

impl From<OptionInput> for NewOption {
    fn from(input: OptionInput) -> Self {
        NewOption { sku: Sku(new_id()), name: input.name, price_delta: Won(input.price_delta), stock: input.stock }
    }
}

/// An option as its seller sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SavedOption {
    sku: Sku,
    name: String,
    price_delta: Won,
    price: Won,
}

/// A product as its seller sees it. Quantities are at `/v1/stock/{sku}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct SavedProduct {
    id: ProductId,
    store_id: StoreId,
    name: String,
    description: String,
    price: Won,
    stock_policy: StockPolicy,
    /// Most units of a SKU that a member's unpaid orders may reserve. Null: the mall's default.
    max_unpaid_per_member: Option<u32>,
    /// `on_sale` or `paused`.
    state: &'static str,
    created_at: Timestamp,
    /// Incremented by every change. A request that changes nothing leaves it.
    version: i64,
    options: Vec<SavedOption>,
}

impl From<&Product> for SavedProduct {
    fn from(product: &Product) -> Self {
        let options = product.live_options().map(|option| {
            let (name, price_delta) = (option.name.clone(), option.price_delta);
            SavedOption { sku: option.sku, name, price_delta, price: product.price_of(option) }
        });
        Self {
            id: product.id,
            store_id: product.store_id,
            name: product.name.clone(),
            description: product.description.clone(),
            price: product.price,
            stock_policy: product.policy,
            max_unpaid_per_member: product.max_unpaid,
            state: product.state.as_str(),
            created_at: product.created_at,
            version: product.version,
            options: options.collect(),
        }
    }
}

/// Admits operators to every existing store, and sellers to their own. All others get `not-found`.
async fn check_store(catalog: &Catalog, caller: &Caller, store_id: StoreId) -> Result<(), Problem> {
    let store = catalog.kit.links.call(GetStore { store_id }).await?.ok_or(Code::NotFound)?;
    if matches!(caller.role, Role::Operator) || store.seller_id == Some(caller.member_id) {
        return Ok(());
    }
    Err(Code::NotFound.into())
}

/// Admits operators and the seller of its store to a product. A deleted product passes, because the command recognizes a repeat
/// of the request that deleted it.
async fn check_product(catalog: &Catalog, caller: &Caller, id: ProductId) -> Result<(), Problem> {
    let store_id = store::store_of(&mut *catalog.kit.db.reader().await?, id).await?.ok_or(Code::NotFound)?;
    check_store(catalog, caller, store_id).await
}

/// Emits the message that lists new SKUs for the stock service. Their store and policy never change afterwards.
fn emit_skus_listed(work: &mut Work, product: &Product, options: &[NewOption]) -> Result<(), Fault> {
    if options.is_empty() {
        return Ok(());
    }
    let skus = options.iter().map(|option| SkuListed { sku: option.sku, stock: option.stock }).collect();
    let (product_id, store_id, policy) = (product.id, product.store_id, product.policy);
    work.emit(product_id, Message::SkusListed(SkusListed { product_id, store_id, policy, skus }))
}

impl From<Invalid> for FieldError {
    fn from(invalid: Invalid) -> Self {
        FieldError { pointer: invalid.pointer, message: invalid.message, code: invalid.code }
    }
}

/// The outcome of a command that is invalid for the stored product.
fn invalid_outcome(invalid: Invalid) -> Outcome {
    let refusal = Refusal::from(invalid.code);
    let (status, errors) = (refusal.code.status(), [FieldError::from(invalid)]);
    let body = problem_body(&refusal, &errors, &[]).into();
    Answer { status, body, location: None, replayed: false }.into()
}

fn json_response(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}
