-- A product as it is shown. Deleted ones stay: orders of the past name them.
create table catalog_products (
    id UUID primary key,
    store_id UUID not null,
    name TEXT not null,
    -- The name in lower case, for searching: the two databases disagree about case.
    search_name TEXT not null,
    description TEXT not null,
    price BIGINT not null check (price >= 0),
    policy TEXT not null check (policy in ('reserve_on_order', 'deduct_on_payment')),
    state TEXT not null check (state = 'on_sale' or state = 'paused' or state = 'deleted'),
    created_at BIGINT not null,
    version BIGINT not null check (version >= 1)
) without rowid;

-- Each order of the public list, over the whole mall and within a store.
create index catalog_products_created on catalog_products (created_at, id) where state = 'on_sale';
create index catalog_products_price on catalog_products (price, id) where state = 'on_sale';
create index catalog_products_store_created on catalog_products (store_id, created_at, id) where state = 'on_sale';
create index catalog_products_store_price on catalog_products (store_id, price, id) where state = 'on_sale';

-- What is bought: every product has at least one option, each with a SKU of its own.
create table catalog_options (
    sku UUID primary key,
    product_id UUID not null,
    position BIGINT not null,
    name TEXT not null,
    price_delta BIGINT not null,
    deleted BOOLEAN not null
) without rowid;

create unique index catalog_options_position on catalog_options (product_id, position);
create unique index catalog_options_name on catalog_options (product_id, name) where not deleted;
