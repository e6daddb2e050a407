-- What lists filter and sort by, kept with the product: the lowest and the highest price of its live options.
alter table catalog_products add column lowest_price BIGINT not null default 0;
alter table catalog_products add column highest_price BIGINT not null default 0;
-- The version of which search_name, lowest_price and highest_price are. Rows written by an earlier binary have another one, and a job
-- brings them up to date. search_name is the folded name: NFKC, without case.
alter table catalog_products add column summary_version BIGINT not null default 0;

update catalog_products set
    lowest_price = price + coalesce((select min(price_delta) from catalog_options
        where catalog_options.product_id = catalog_products.id and not catalog_options.deleted), 0),
    highest_price = price + coalesce((select max(price_delta) from catalog_options
        where catalog_options.product_id = catalog_products.id and not catalog_options.deleted), 0);

create index catalog_products_lowest on catalog_products (lowest_price, id) where state = 'on_sale';
create index catalog_products_store_lowest on catalog_products (store_id, lowest_price, id) where state = 'on_sale';
create index catalog_products_unsummarized on catalog_products (id) where summary_version <> version;
-- catalog_products_price and catalog_products_store_price serve earlier binaries only. A later release drops them.
