//! How readers get at products: from the shelf, else from the database, with quantities from the stock service.

use crate::{
    Catalog,
    query::{Filter, Position},
    shelf::{Page, PageKey},
    store,
    view::View,
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
    /// What these SKUs cost now; those that cannot be bought are missing.
    pub(crate) async fn prices(&self, skus: &[Sku]) -> Result<Vec<PricedSku>, DbError> {
        let mut priced = Vec::with_capacity(skus.len());
        let mut missing = Vec::new();
        let mut stamps = HashMap::new();
        for sku in skus {
            let stamp = self.shelf.stamp(*sku);
            match self.shelf.prices.get(&(*sku, stamp)).await {
                Some(found) => priced.push(PricedSku::clone(&found)),
                None => {
                    missing.push(*sku);
                    stamps.insert(*sku, stamp);
                }
            }
        }
        if !missing.is_empty() {
            let read = store::prices(&mut *self.kit.db.reader().await?, &missing).await?;
            for found in read {
                self.shelf.prices.insert((found.sku, stamps[&found.sku]), Arc::new(found.clone())).await;
                priced.push(found);
            }
        }
        Ok(priced)
    }

    /// Products as they are shown, in the order asked for. Unknown and deleted ones are missing.
    pub(crate) async fn views(&self, ids: &[ProductId]) -> Result<Vec<Arc<View>>, Problem> {
        let mut found: HashMap<ProductId, Arc<View>> = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        let mut stamps = HashMap::new();
        for id in ids {
            let stamp = self.shelf.stamp(*id);
            match self.shelf.views.get(&(*id, stamp)).await {
                Some(view) => {
                    found.insert(*id, view);
                }
                None => {
                    missing.push(*id);
                    stamps.insert(*id, stamp);
                }
            }
        }
        if !missing.is_empty() {
            let mut products = store::products(&mut *self.kit.db.reader().await?, &missing).await?;
            products.retain(|product| product.state != crate::model::SaleState::Deleted);
            let names = self.store_names(products.iter().map(|product| product.store_id).collect()).await;
            for product in products {
                // A store that cannot be found any more, or asked about now, still sells; its name is not worth an error page.
                let name = names.get(&product.store_id).map_or("", |name| name);
                let view = Arc::new(View::new(&product, name));
                self.shelf.views.insert((product.id, stamps[&product.id]), Arc::clone(&view)).await;
                found.insert(product.id, view);
            }
        }
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    async fn store_names(&self, ids: HashSet<StoreId>) -> HashMap<StoreId, Arc<str>> {
        let mut names = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.shelf.store_names.get(&id).await {
                Some(name) => {
                    names.insert(id, name);
                }
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            for store in self.kit.links.call_or(GetStores { store_ids: missing }, Vec::new()).await {
                let name: Arc<str> = store.name.into();
                self.shelf.store_names.insert(store.store_id, Arc::clone(&name)).await;
                names.insert(store.store_id, name);
            }
        }
        names
    }

    /// A page of what is on sale, whether in stock or not.
    pub(crate) async fn page(&self, filter: &Filter, after: Option<Position>, limit: u32) -> Result<Arc<Page>, Problem> {
        let key = (PageKey { filter: filter.clone(), after, limit }, self.shelf.stamp_of_all());
        if let Some(page) = self.shelf.pages.get(&key).await {
            return Ok(page);
        }
        let mut ids = store::list(&mut *self.kit.db.reader().await?, filter, after, limit).await?;
        let more = ids.len() > limit as usize;
        ids.truncate(limit as usize);
        let page = Arc::new(Page { views: self.views(&ids).await?, more });
        self.shelf.pages.insert(key, Arc::clone(&page)).await;
        Ok(page)
    }

    /// How many units of each option of these products could be ordered now.
    pub(crate) async fn available(&self, views: &[Arc<View>]) -> Result<HashMap<Sku, i64>, Problem> {
        let skus = views.iter().flat_map(|view| view.skus.iter().copied()).collect();
        Ok(self.kit.links.call(GetAvailability { skus }).await?)
    }
}
