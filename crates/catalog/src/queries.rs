//! Reads products from the cache or the database, and their quantities from the stock service.

use crate::{
    Catalog,
    cache::{PageKey, ProductPage},
    model::{ProductFilter, ProductPosition, SaleState},
    store,
    view::ProductView,
};
use contracts::{
    ProductId, Sku, StoreId,
    calls::{GetAvailability, GetStores, PricedSku},
};
use kit::{DbError, http::Problem};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

impl Catalog {
    /// Current prices of these SKUs. A SKU that cannot be bought is missing.
    pub(crate) async fn prices(&self, skus: &[Sku]) -> Result<Vec<PricedSku>, DbError> {
        let mut priced = Vec::with_capacity(skus.len());
        let mut missing = Vec::new();
        let mut versions = HashMap::new();
        for sku in skus {
            let version = self.cache.version(*sku);
            match self.cache.prices.get(&(*sku, version)).await {
                Some(found) => priced.push(PricedSku::clone(&found)),
                None => {
                    missing.push(*sku);
                    versions.insert(*sku, version);
                }
            }
        }
        if !missing.is_empty() {
            let read = store::prices(&mut *self.kit.db.reader().await?, &missing).await?;
            for found in read {
                self.cache.prices.insert((found.sku, versions[&found.sku]), Arc::new(found.clone())).await;
                priced.push(found);
            }
        }
        Ok(priced)
    }

    /// Views of these products, in the given order. Unknown and deleted products are missing.
    pub(crate) async fn views(&self, ids: &[ProductId]) -> Result<Vec<Arc<ProductView>>, Problem> {
        let mut found: HashMap<ProductId, Arc<ProductView>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        let mut versions = HashMap::new();
        for id in ids {
            let version = self.cache.version(*id);
            match self.cache.views.get(&(*id, version)).await {
                Some(view) => {
                    found.insert(*id, view);
                }
                None => {
                    missing.push(*id);
                    versions.insert(*id, version);
                }
            }
        }
        if !missing.is_empty() {
            let mut products = store::products(&mut *self.kit.db.reader().await?, &missing).await?;
            products.retain(|product| product.state != SaleState::Deleted);
            let names = self.store_names(products.iter().map(|product| product.store_id).collect()).await;
            for product in products {
                // A product is shown without its store name while the stores service is unavailable or the store is closed.
                let name = names.get(&product.store_id).map_or("", |name| name);
                let view = Arc::new(ProductView::new(&product, name));
                self.cache.views.insert((product.id, versions[&product.id]), Arc::clone(&view)).await;
                found.insert(product.id, view);
            }
        }
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    async fn store_names(&self, ids: HashSet<StoreId>) -> HashMap<StoreId, Arc<str>> {
        let mut names = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.cache.store_names.get(&id).await {
                Some(name) => {
                    names.insert(id, name);
                }
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            for store in self.kit.links.call_or(GetStores { store_ids: missing }, Vec::new()).await {
                let name: Arc<str> = store.name.into();
                self.cache.store_names.insert(store.store_id, Arc::clone(&name)).await;
                names.insert(store.store_id, name);
            }
        }
        names
    }

    /// A page of products on sale, in stock or sold out.
    pub(crate) async fn page(
        &self,
        filter: &ProductFilter,
        after: Option<ProductPosition>,
        limit: u32,
    ) -> Result<Arc<ProductPage>, Problem> {
        let key = (PageKey { filter: filter.clone(), after, limit }, self.cache.version_of_all());
        if let Some(page) = self.cache.pages.get(&key).await {
            return Ok(page);
        }
        let found = {
            let mut reader = if filter.passes_over() { self.kit.db.heavy_reader().await? } else { self.kit.db.reader().await? };
            store::list(&mut reader, filter, after, limit).await?
        };
        let ids: Vec<ProductId> = found.positions.iter().map(|position| position.id).collect();
        let mut positions = found.positions.into_iter();
        let views = self.views(&ids).await?.into_iter();
        // A product deleted meanwhile has no view.
        let entries = views.filter_map(|view| Some((positions.find(|position| position.id == view.id)?, view))).collect();
        let page = Arc::new(ProductPage { entries, next: found.next });
        self.cache.pages.insert(key, Arc::clone(&page)).await;
        Ok(page)
    }

    /// Units of each option of these products that can be ordered now.
    pub(crate) async fn available(&self, views: impl Iterator<Item = &Arc<ProductView>>) -> Result<HashMap<Sku, i64>, Problem> {
        let skus = views.flat_map(|view| view.skus.iter().copied()).collect();
        Ok(self.kit.links.call(GetAvailability { skus }).await?)
    }
}
