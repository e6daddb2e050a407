//! `catalog.list`: lists the products on sale, filtered and sorted, in pages. Anyone.

use super::json_response;
use crate::{
    Catalog,
    cache::{MAX_RENDERED, PageKey, RenderedPage},
    model::{ProductFilter, ProductPosition, Sort},
    view::{ProductItem, ProductView},
};
use axum::{body::Bytes, extract::State, response::Response};
use contracts::{Code, Sku, StoreId, calls::GetStockVersion};
use kit::http::{Listing, Problem, ProblemBody, Query, page_limit, text};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::IntoParams;

/// Longest search text, in characters; names are not longer.
const MAX_QUERY: usize = 200;
/// Products in each scan for those in stock, after a first scan of one page's size.
const SCAN_SIZE: u32 = 100;
/// Most scans for one page. Then the page ends early, with a cursor to continue.
const MAX_SCANS: usize = 4;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Part of the name. Case, width and the composition of letters do not count.
    #[param(max_length = 200)]
    q: Option<String>,
    store: Option<StoreId>,
    /// Only products with an option of at least this price.
    #[param(minimum = 0)]
    min_price: Option<i64>,
    /// Only products with an option of at most this price.
    #[param(minimum = 0)]
    max_price: Option<i64>,
    /// `true`: only products that can be ordered now.
    in_stock: Option<bool>,
    /// By price: the lowest price of a product counts.
    #[param(inline)]
    sort: Option<Sort>,
    /// Products per page; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// The `next_cursor` of the previous page.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The content of a page, and the start of the next one.
struct Selection {
    views: Vec<Arc<ProductView>>,
    available: HashMap<Sku, i64>,
    next: Option<ProductPosition>,
}

/// Lists the products on sale, filtered and sorted, in pages
///
/// Anyone. With `q`, prices or `in_stock`, a page looks at a bounded number of products. It may then have fewer items than `limit`, or
/// none, although more follow. Only a null `next_cursor` ends the list.
#[utoipa::path(get, path = "/v1/products", operation_id = "catalog.list", tag = "catalog",
    params(ListParams),
    responses(
        (status = 200, body = Listing<ProductItem>, description = "also with `Link: <…>; rel=\"next\"` when there is a next page"),
        (status = 400, description = "duplicate-parameter, invalid-cursor", body = ProblemBody),
        (status = 422, description = "invalid-parameter", body = ProblemBody),
        (status = 503, description = "too many searches at once; `Retry-After` tells when to repeat", body = ProblemBody)))]
pub async fn list(
    State(catalog): State<Arc<Catalog>>,
    uri: axum::http::Uri,
    Query(params): Query<ListParams>,
) -> Result<Response, Problem> {
    let limit = page_limit(params.limit)?;
    let in_stock = params.in_stock.unwrap_or(false);
    let cursor = params.cursor.clone();
    let filter = product_filter(params)?;
    let after = cursor.map(|text| catalog.kit.cursors.decode::<ProductPosition>(filter.sort.cursor_kind(), &text)).transpose()?;
    let page = rendered_page(&catalog, PageKey { filter, after, limit }, in_stock).await?;
    let mut response = json_response(page.json.clone());
    if let Some(link) = page.next_cursor.as_ref().and_then(|next| next_link(&uri, next).parse().ok()) {
        response.headers_mut().insert(axum::http::header::LINK, link);
    }
    Ok(response)
}

/// The rendered page, from the cache if nothing changed since.
async fn rendered_page(catalog: &Catalog, key: PageKey, in_stock: bool) -> Result<Arc<RenderedPage>, Problem> {
    // Both versions are read before the content, so that a change in between makes the page outdated.
    let catalog_version = catalog.cache.version_of_all();
    let stock_version = catalog.kit.links.call(GetStockVersion {}).await?;
    let key = (key, in_stock);
    if let Some(known) = catalog.cache.rendered.get(&key).await
        && (known.catalog_version, known.stock_version) == (catalog_version, stock_version)
    {
        return Ok(known);
    }
    let (PageKey { filter, after, limit }, _) = &key;
    let selection = match in_stock {
        true => select_in_stock(catalog, filter, *after, *limit).await?,
        false => select_page(catalog, filter, *after, *limit).await?,
    };
    let next_cursor = selection.next.map(|position| catalog.kit.cursors.encode(filter.sort.cursor_kind(), &position));
    let json = Bytes::from(render(&selection, next_cursor.as_deref()));
    let made = Arc::new(RenderedPage { catalog_version, stock_version, json, next_cursor });
    if made.json.len() <= MAX_RENDERED {
        catalog.cache.rendered.insert(key, Arc::clone(&made)).await;
    }
    Ok(made)
}

fn product_filter(params: ListParams) -> Result<ProductFilter, Problem> {
    let q = params.q.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if q.is_some_and(|text| text.chars().count() > MAX_QUERY || text.chars().any(char::is_control)) {
        return Err(Problem::field("/q", Code::InvalidParameter, format!("must be at most {MAX_QUERY} visible characters")));
    }
    for (pointer, price) in [("/min_price", params.min_price), ("/max_price", params.max_price)] {
        if price.is_some_and(|price| price < 0) {
            return Err(Problem::field(pointer, Code::InvalidParameter, "must not be negative"));
        }
    }
    let sort = params.sort.unwrap_or_default();
    Ok(ProductFilter {
        q: q.map(|q| text::fold(q.trim())),
        store: params.store,
        min_price: params.min_price,
        max_price: params.max_price,
        sort,
    })
}

async fn select_page(catalog: &Catalog, filter: &ProductFilter, after: Option<ProductPosition>, limit: u32) -> Result<Selection, Problem> {
    let page = catalog.page(filter, after, limit).await?;
    let available = catalog.available(page.entries.iter().map(|(_, view)| view)).await?;
    let views = page.entries.iter().map(|(_, view)| Arc::clone(view)).collect();
    Ok(Selection { views, available, next: page.next })
}

/// Selects products in stock, by scanning the list: quantities belong to another service and change all the time.
async fn select_in_stock(
    catalog: &Catalog,
    filter: &ProductFilter,
    mut after: Option<ProductPosition>,
    limit: u32,
) -> Result<Selection, Problem> {
    let mut selection = Selection { views: Vec::new(), available: HashMap::new(), next: None };
    // Usually almost everything is in stock, so that one page suffices.
    let mut scan_size = limit;
    for _ in 0..MAX_SCANS {
        let page = catalog.page(filter, after, scan_size).await?;
        let ended_early = page.entries.len() < scan_size as usize;
        scan_size = SCAN_SIZE;
        let available = catalog.available(page.entries.iter().map(|(_, view)| view)).await?;
        let in_stock = page.entries.iter().enumerate().filter(|(_, (_, view))| view.available(&available) > 0);
        for (index, (position, view)) in in_stock {
            selection.views.push(Arc::clone(view));
            selection.available.extend(view.skus.iter().filter_map(|sku| Some((*sku, *available.get(sku)?))));
            if selection.views.len() == limit as usize {
                let is_last = page.next.is_none() && index + 1 == page.entries.len();
                selection.next = (!is_last).then_some(*position);
                return Ok(selection);
            }
        }
        after = page.next;
        // A page that ended early has cost enough.
        if after.is_none() || ended_early {
            break;
        }
    }
    selection.next = after;
    Ok(selection)
}

/// Renders a `Listing<ProductItem>`.
fn render(selection: &Selection, next: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + 512 * selection.views.len());
    body.extend_from_slice(b"{\"items\":[");
    for (index, view) in selection.views.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        view.write_item(&mut body, &selection.available);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    match next {
        // A cursor is base64, so it needs no escaping.
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

/// The same request with the next cursor, as an RFC 8288 link.
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
    fn the_next_link_keeps_the_query() {
        let uri: axum::http::Uri = "/v1/products?q=%25a&cursor=old&limit=2".parse().expect("a target");
        assert_eq!(next_link(&uri, "new"), "</v1/products?q=%25a&limit=2&cursor=new>; rel=\"next\"");
        let bare: axum::http::Uri = "/v1/products".parse().expect("a target");
        assert_eq!(next_link(&bare, "new"), "</v1/products?cursor=new>; rel=\"next\"");
    }
}
