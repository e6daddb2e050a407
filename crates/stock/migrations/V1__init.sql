-- One row per SKU: what is there, what orders hold of it, what was sold. `moves` is the number of its last movement.
create table stock_items (
    sku UUID primary key,
    product_id UUID not null,
    store_id UUID not null,
    policy TEXT not null check (policy in ('reserve_on_order', 'deduct_on_payment')),
    on_hand BIGINT not null check (on_hand >= 0),
    reserved BIGINT not null check (reserved >= 0),
    sold BIGINT not null check (sold >= 0),
    moves BIGINT not null check (moves >= 1),
    check (reserved <= on_hand)
) without rowid;

-- Every change of on_hand, append-only, numbered per SKU without hole: their sum is on_hand.
create table stock_movements (
    sku UUID not null,
    n BIGINT not null check (n >= 1),
    kind TEXT not null check (kind = 'INITIAL' or kind = 'SET' or kind = 'ADJUST' or kind = 'SALE' or kind = 'RETURN'),
    quantity BIGINT not null,
    order_id UUID,
    line_no BIGINT,
    reason TEXT,
    at BIGINT not null,
    primary key (sku, n),
    check ((kind in ('SALE', 'RETURN')) = (order_id is not null)),
    check ((order_id is null) = (line_no is null)),
    check (kind <> 'SALE' or quantity < 0),
    check (kind not in ('INITIAL', 'RETURN') or quantity >= 0)
) without rowid;

-- An order line is sold once and comes back once. Also finds what an order bought, when it is given back.
create unique index stock_movements_order on stock_movements (order_id, line_no, kind) where order_id is not null;

-- What the saga of an order asked of stock, and what it was told: makes every step safe to repeat.
create table stock_reservations (
    order_id UUID primary key,
    state TEXT not null check (state = 'HELD' or state = 'COMMITTED' or state = 'RELEASED' or state = 'RETURNED' or state = 'REFUSED' or state = 'TOMBSTONE'),
    reserve_step TEXT check (reserve_step in ('DONE', 'REFUSED')),
    take_step TEXT check (take_step in ('DONE', 'REFUSED')),
    refusal_code TEXT,
    refusal TEXT,
    expires_at BIGINT,
    check ((refusal_code is null) = (refusal is null))
) without rowid;

-- For the watch over holds that outlive their time. Small: only what is held now is in it.
create index stock_reservations_held on stock_reservations (expires_at) where state = 'HELD';

-- The lines an order holds. A hold that began and ended in one transaction is not written: its SALE movement tells all.
create table stock_holds (
    order_id UUID not null,
    line_no BIGINT not null,
    sku UUID not null,
    quantity BIGINT not null check (quantity >= 1),
    state TEXT not null check (state = 'ACTIVE' or state = 'COMMITTED' or state = 'RELEASED'),
    primary key (order_id, line_no)
) without rowid;
