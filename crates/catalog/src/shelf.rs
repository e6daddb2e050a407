//! What readers see, in memory, so that a hot page costs no database. Never older than the last commit of this process, and not older than
//! a moment where other processes write as well.
//!
//! Every entry is kept under its key *and* a stamp that the commit of a change moves on. A reader takes the stamp before it reads the
//! database; if a change commits meanwhile, what it read is kept under a stamp that nobody asks for any more. So nothing needs to be
//! dropped, and an old value cannot come back. Prices of orders come from here as well. Of what other processes commit no stamp tells: for
//! them all stamps move on by themselves, with the time.

use crate::{
    model::Product,
    query::{Filter, Position},
    view::View,
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

/// Changes are told apart by this many stamps: one change makes a thousandth of the entries be read again.
const STRIPES: usize = 1024;
/// Bounds memory: products weigh about a kilobyte.
const PRODUCTS: u64 = 10_000;
const PRICES: u64 = 50_000;
/// Pages share their products with the entries above.
const PAGES: u64 = 1_000;
const STORES: u64 = 10_000;
/// Finished pages, of at most [`MAX_BODY`] bytes: some 30 MB at the very most.
const BODIES: u64 = 500;
/// A page that is larger is put together for each reader. An ordinary one of 20 products has 10 KB.
pub const MAX_BODY: usize = 64 * 1024;
/// A store's name is the one thing shown that no stamp watches over. It is kept by itself, in products, in pages of those, and in
/// finished pages: an old one may be seen for four times this long.
const NAME_TTL: Duration = Duration::from_secs(5);
/// Prices are always current; this only lets go of what nobody buys.
const PRICE_TTL: Duration = Duration::from_secs(300);
/// How long an entry is believed that another process may have changed.
pub const SHARED_TTL: Duration = Duration::from_millis(500);

/// A page of the list: what is on it, and whether another one follows.
#[derive(Debug)]
pub struct Page {
    pub views: Vec<Arc<View>>,
    pub more: bool,
}

/// A finished page. Good while the catalogue has this stamp and stock this version; both were read before anything that is in it.
#[derive(Debug)]
pub struct Body {
    pub stamp: Stamp,
    pub version: u64,
    pub json: Bytes,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    pub filter: Filter,
    pub after: Option<Position>,
    pub limit: u32,
}

pub struct Shelf {
    pub views: Cache<(ProductId, Stamp), Arc<View>>,
    pub prices: Cache<(Sku, Stamp), Arc<PricedSku>>,
    pub pages: Cache<(PageKey, Stamp), Arc<Page>>,
    /// By question, and whether only what is in stock is wanted.
    pub bodies: Cache<(PageKey, bool), Arc<Body>>,
    pub store_names: Cache<StoreId, Arc<str>>,
    stamps: Arc<Stamps>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    changes: u64,
    moment: u128,
}

struct Stamps {
    stripes: Vec<AtomicU64>,
    any: AtomicU64,
    /// Runs where other processes write as well.
    moments: Option<Stopwatch>,
}

impl Shelf {
    /// `shared`: other processes write as well.
    pub fn new(shared: bool) -> Self {
        let stripes = (0..STRIPES).map(|_| AtomicU64::new(0)).collect();
        let stamps = Stamps { stripes, any: AtomicU64::new(0), moments: shared.then(Stopwatch::start) };
        // What nobody can ask for any more need not be kept.
        let (names, prices) = if shared { (SHARED_TTL * 2, SHARED_TTL * 2) } else { (NAME_TTL, PRICE_TTL) };
        Self {
            views: Cache::new(PRODUCTS, names),
            prices: Cache::new(PRICES, prices),
            pages: Cache::new(PAGES, names),
            bodies: Cache::new(BODIES, names),
            store_names: Cache::new(STORES, names),
            stamps: Arc::new(stamps),
        }
    }

    /// The stamp of one product or SKU. Take it before reading the database.
    pub fn stamp(&self, id: impl Into<Uuid>) -> Stamp {
        self.stamps.read(self.stamps.stripe(id.into()))
    }

    /// The stamp of the whole catalogue.
    pub fn stamp_of_all(&self) -> Stamp {
        self.stamps.read(&self.stamps.any)
    }

    /// What to do once a change of these products is durable.
    pub fn changed<'p>(&self, products: impl Iterator<Item = &'p Product>) -> impl FnOnce() + Send + 'static {
        let mut ids: Vec<Uuid> = Vec::new();
        for product in products {
            ids.push(product.id.into());
            ids.extend(product.options.iter().map(|option| Uuid::from(option.sku)));
        }
        let stamps = Arc::clone(&self.stamps);
        move || {
            for id in ids {
                stamps.stripe(id).fetch_add(1, Ordering::SeqCst);
            }
            stamps.any.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Stamps {
    fn read(&self, changes: &AtomicU64) -> Stamp {
        let moment = self.moments.as_ref().map_or(0, |moments| moments.elapsed().as_millis() / SHARED_TTL.as_millis());
        Stamp { changes: changes.load(Ordering::SeqCst), moment }
    }

    fn stripe(&self, id: Uuid) -> &AtomicU64 {
        // The low bits of a UUIDv7 are random.
        &self.stripes[(id.as_u128() % STRIPES as u128) as usize]
    }
}
