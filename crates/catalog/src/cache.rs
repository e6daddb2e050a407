//! Products, prices and pages in memory, so that a popular page needs no database read.
//!
//! Entries are never older than the last commit of this process, and at most half a second older than commits of other processes.
//! An entry is stored under its key *and* a version, which the commit of a change increments. A reader takes the version before
//! it reads the database. If a change commits meanwhile, the value lands under an outdated version, which no reader asks for.
//! So entries need no eviction on change, and an old value cannot come back. Orders are charged prices from here, too.
//! Commits of other processes do not increment the versions here, so all versions also change with time.

use crate::{
    model::{Product, ProductFilter, ProductPosition},
    view::ProductView,
};
use axum::body::Bytes;
use contracts::{ProductId, Sku, StoreId, calls::PricedSku};
use kit::{cache::Cache, ports::Stopwatch};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// Number of version counters: one change invalidates about a thousandth of the entries.
const STRIPES: usize = 1024;
/// Most cached products, of about a kilobyte each.
const PRODUCTS: u64 = 10_000;
/// Most cached prices.
const PRICES: u64 = 50_000;
/// Most cached pages. They share their products with the entries above.
const PAGES: u64 = 1_000;
/// Most cached store names.
const STORES: u64 = 10_000;
/// Most rendered pages, of at most [`MAX_RENDERED`] bytes each: 30 MB at most.
const RENDERED: u64 = 500;
/// Largest rendered page to cache, in bytes. An ordinary page of 20 products has 10 KB.
pub const MAX_RENDERED: usize = 64 * 1024;
/// Lifetime of entries with a store name, the only shown value without a version. The name is cached by itself, in products,
/// in pages and in rendered pages. So an old name may be shown for four times this long.
const NAME_TTL: Duration = Duration::from_secs(5);
/// Lifetime of prices. Versions keep them current; this only frees the memory of unused ones.
const PRICE_TTL: Duration = Duration::from_secs(300);
/// Longest staleness of an entry that another process may have changed.
pub const SHARED_TTL: Duration = Duration::from_millis(500);

/// A page of the product list.
#[derive(Debug)]
pub struct ProductPage {
    /// The products with their positions.
    pub entries: Vec<(ProductPosition, Arc<ProductView>)>,
    /// The start of the next page. It may be set after a short page.
    pub next: Option<ProductPosition>,
}

/// A rendered page. Valid while catalogue and stock have these versions, which were read before the content of the page.
#[derive(Debug)]
pub struct RenderedPage {
    pub catalog_version: CacheVersion,
    pub stock_version: u64,
    pub json: Bytes,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    pub filter: ProductFilter,
    pub after: Option<ProductPosition>,
    pub limit: u32,
}

pub struct CatalogCache {
    pub views: Cache<(ProductId, CacheVersion), Arc<ProductView>>,
    pub prices: Cache<(Sku, CacheVersion), Arc<PricedSku>>,
    pub pages: Cache<(PageKey, CacheVersion), Arc<ProductPage>>,
    /// By page. `true`: only products in stock.
    pub rendered: Cache<(PageKey, bool), Arc<RenderedPage>>,
    pub store_names: Cache<StoreId, Arc<str>>,
    versions: Arc<CacheVersions>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheVersion {
    changes: u64,
    /// Number of [`SHARED_TTL`]s since the start. 0 if this process is the only writer.
    tick: u128,
}

struct CacheVersions {
    stripes: Vec<AtomicU64>,
    /// Counts the changes of the whole catalogue.
    all: AtomicU64,
    /// `None`: this process is the only writer.
    since_start: Option<Stopwatch>,
}

impl CatalogCache {
    /// `is_shared`: other processes write, too.
    pub fn new(is_shared: bool) -> Self {
        let stripes = (0..STRIPES).map(|_| AtomicU64::new(0)).collect();
        let versions = CacheVersions { stripes, all: AtomicU64::new(0), since_start: is_shared.then(Stopwatch::start) };
        // Entries of an outdated tick are unreachable, so they expire soon.
        let (names, prices) = if is_shared { (SHARED_TTL * 2, SHARED_TTL * 2) } else { (NAME_TTL, PRICE_TTL) };
        Self {
            views: Cache::new(PRODUCTS, names),
            prices: Cache::new(PRICES, prices),
            pages: Cache::new(PAGES, names),
            rendered: Cache::new(RENDERED, names),
            store_names: Cache::new(STORES, names),
            versions: Arc::new(versions),
        }
    }

    /// The version of one product or SKU. Callers take it before they read the database.
    pub fn version(&self, id: impl Into<Uuid>) -> CacheVersion {
        self.versions.read(self.versions.stripe(id.into()))
    }

    /// The version of the whole catalogue.
    pub fn version_of_all(&self) -> CacheVersion {
        self.versions.read(&self.versions.all)
    }

    /// Returns the function that invalidates these products. The caller runs it after the commit of their change.
    pub fn invalidation<'p>(&self, products: impl Iterator<Item = &'p Product>) -> impl FnOnce() + Send + 'static {
        let mut ids: Vec<Uuid> = Vec::new();
        for product in products {
            ids.push(product.id.into());
            ids.extend(product.options.iter().map(|option| Uuid::from(option.sku)));
        }
        let versions = Arc::clone(&self.versions);
        move || {
            for id in ids {
                versions.stripe(id).fetch_add(1, Ordering::SeqCst);
            }
            versions.all.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl CacheVersions {
    fn read(&self, changes: &AtomicU64) -> CacheVersion {
        let tick = self.since_start.as_ref().map_or(0, |watch| watch.elapsed().as_millis() / SHARED_TTL.as_millis());
        CacheVersion { changes: changes.load(Ordering::SeqCst), tick }
    }

    fn stripe(&self, id: Uuid) -> &AtomicU64 {
        // The low bits of a UUIDv7 are random.
        &self.stripes[(id.as_u128() % STRIPES as u128) as usize]
    }
}
