//! What is on sale, filtered, sorted, a page at a time. Everyone.

use super::json_response;
use crate::{
    Catalog,
    query::{Filter, Position, Sort},
    shelf::{Body, MAX_BODY, PageKey},
    view::{ProductItem, View},
};
use axum::{body::Bytes, extract::State, response::Response};
use contracts::{Code, Sku, StoreId, calls::GetStockVersion};
use kit::http::{Listing, Problem, ProblemBody, Query, page_limit};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::IntoParams;

/// Longest text to search for; names are not longer.
const MAX_QUERY: usize = 200;
/// Products looked at together when only those in stock are wanted, and the first page's worth did not suffice.
const LOOK: u32 = 100;
/// Looks for one page: past that many products without stock it ends early, with a cursor to go on.
const MAX_LOOKS: usize = 10;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Part of the name, in upper or lower case.
    #[param(max_length = 200)]
    q: Option<String>,
    store: Option<StoreId>,
    #[param(minimum = 0)]
    min_price: Option<i64>,
    #[param(minimum = 0)]
    max_price: Option<i64>,
    /// Only what can be ordered now.
    in_stock: Option<bool>,
    sort: Option<Sort>,
    /// Products a page, 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What a page shows, and where the next one begins.
struct Chosen {
    views: Vec<Arc<View>>,
    available: HashMap<Sku, i64>,
    next: Option<Position>,
}

/// What is on sale, filtered, sorted, a page at a time
///
/// Everyone.
#[utoipa::path(get, path = "/v1/products", operation_id = "catalog.list", tag = "catalog",
    params(ListParams),
    responses(
        (status = 200, body = Listing<ProductItem>, description = "also with `Link: <…>; rel=\"next\"` when there is a next page"),
        (status = 400, description = "duplicate-parameter, invalid-cursor", body = ProblemBody),
        (status = 422, description = "invalid-parameter", body = ProblemBody)))]
pub async fn list(
    State(catalog): State<Arc<Catalog>>,
    uri: axum::http::Uri,
    Query(params): Query<ListParams>,
) -> Result<Response, Problem> {
    let limit = page_limit(params.limit)?;
    let in_stock = params.in_stock.unwrap_or(false);
    let cursor = params.cursor.clone();
    let filter = filter(params)?;
    let after = cursor.map(|text| catalog.kit.cursors.decode::<Position>(filter.sort.cursor_kind(), &text)).transpose()?;
    let page = page(&catalog, PageKey { filter, after, limit }, in_stock).await?;
    let mut response = json_response(page.json.clone());
    if let Some(link) = page.next_cursor.as_ref().and_then(|next| next_link(&uri, next).parse().ok()) {
        response.headers_mut().insert(axum::http::header::LINK, link);
    }
    Ok(response)
}

/// The finished page, as it was made for another reader if nothing changed since.
async fn page(catalog: &Catalog, key: PageKey, in_stock: bool) -> Result<Arc<Body>, Problem> {
    // Both before what is read below: a change in between makes the page one that nobody takes for current.
    let stamp = catalog.shelf.stamp_of_all();
    let version = catalog.kit.links.call(GetStockVersion {}).await?;
    let key = (key, in_stock);
    if let Some(known) = catalog.shelf.bodies.get(&key).await
        && (known.stamp, known.version) == (stamp, version)
    {
        return Ok(known);
    }
    let (PageKey { filter, after, limit }, _) = &key;
    let chosen = match in_stock {
        true => choose_in_stock(catalog, filter, *after, *limit).await?,
        false => choose(catalog, filter, *after, *limit).await?,
    };
    let next_cursor = chosen.next.map(|position| catalog.kit.cursors.encode(filter.sort.cursor_kind(), &position));
    let json = Bytes::from(body(&chosen, next_cursor.as_deref()));
    let made = Arc::new(Body { stamp, version, json, next_cursor });
    if made.json.len() <= MAX_BODY {
        catalog.shelf.bodies.insert(key, Arc::clone(&made)).await;
    }
    Ok(made)
}

fn filter(params: ListParams) -> Result<Filter, Problem> {
    let q = params.q.map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty());
    if q.as_ref().is_some_and(|text| text.chars().count() > MAX_QUERY || text.chars().any(char::is_control)) {
        return Err(Problem::field("/q", Code::InvalidParameter, format!("must be at most {MAX_QUERY} visible characters")));
    }
    for (pointer, price) in [("/min_price", params.min_price), ("/max_price", params.max_price)] {
        if price.is_some_and(|price| price < 0) {
            return Err(Problem::field(pointer, Code::InvalidParameter, "must not be negative"));
        }
    }
    let sort = params.sort.unwrap_or_default();
    Ok(Filter { q, store: params.store, min_price: params.min_price, max_price: params.max_price, sort })
}

async fn choose(catalog: &Catalog, filter: &Filter, after: Option<Position>, limit: u32) -> Result<Chosen, Problem> {
    let page = catalog.page(filter, after, limit).await?;
    let available = catalog.available(&page.views).await?;
    let next = page.views.last().filter(|_| page.more).map(|view| view.position(filter.sort));
    Ok(Chosen { views: page.views.clone(), available, next })
}

/// Stock belongs to another service and changes all the time, so it is looked at product by product.
async fn choose_in_stock(catalog: &Catalog, filter: &Filter, mut after: Option<Position>, limit: u32) -> Result<Chosen, Problem> {
    let mut chosen = Chosen { views: Vec::new(), available: HashMap::new(), next: None };
    // Mostly nearly everything is in stock.
    let mut look = limit;
    for _ in 0..MAX_LOOKS {
        let page = catalog.page(filter, after, look).await?;
        look = LOOK;
        let available = catalog.available(&page.views).await?;
        for (index, view) in page.views.iter().enumerate().filter(|(_, view)| view.available(&available) > 0) {
            chosen.views.push(Arc::clone(view));
            chosen.available.extend(view.skus.iter().filter_map(|sku| Some((*sku, *available.get(sku)?))));
            if chosen.views.len() == limit as usize {
                let last = !page.more && index + 1 == page.views.len();
                chosen.next = (!last).then(|| view.position(filter.sort));
                return Ok(chosen);
            }
        }
        after = page.views.last().filter(|_| page.more).map(|view| view.position(filter.sort));
        if after.is_none() {
            return Ok(chosen);
        }
    }
    chosen.next = after;
    Ok(chosen)
}

/// A `Listing<ProductItem>`.
fn body(chosen: &Chosen, next: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + 512 * chosen.views.len());
    body.extend_from_slice(b"{\"items\":[");
    for (index, view) in chosen.views.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        view.write_item(&mut body, &chosen.available);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    match next {
        // A cursor is base64: nothing in it needs escaping.
        Some(cursor) => {
            body.push(b'"');
            body.extend_from_slice(cursor.as_bytes());
            body.push(b'"');
        }
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    body
}

/// The same question with the next cursor, as an RFC 8288 link.
fn next_link(uri: &axum::http::Uri, cursor: &str) -> String {
    let mut link = format!("<{}?", uri.path());
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor=")) {
        link.push_str(pair);
        link.push('&');
    }
    link.push_str("cursor=");
    link.push_str(cursor);
    link.push_str(">; rel=\"next\"");
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    // P2
    #[test]
    fn the_next_link_keeps_the_question() {
        let uri: axum::http::Uri = "/v1/products?q=%25a&cursor=old&limit=2".parse().expect("a target");
        assert_eq!(next_link(&uri, "new"), "</v1/products?q=%25a&limit=2&cursor=new>; rel=\"next\"");
        let bare: axum::http::Uri = "/v1/products".parse().expect("a target");
        assert_eq!(next_link(&bare, "new"), "</v1/products?cursor=new>; rel=\"next\"");
    }
}
