-- One row per order; it is also the state of its checkout saga.
-- `progress` is the position in `itinerary`: of the step that runs, or that is being undone.
create table orders_orders (
    id UUID primary key,
    member_id UUID not null,
    state TEXT not null,
    subtotal BIGINT not null check (subtotal >= 0),
    discount BIGINT not null check (discount >= 0 and discount <= subtotal),
    points_used BIGINT not null check (points_used >= 0),
    shipping BIGINT not null check (shipping >= 0),
    total BIGINT not null check (total >= 0),
    itinerary TEXT not null,
    progress BIGINT not null,
    saga_state TEXT not null check (saga_state = 'RUNNING' or saga_state = 'WAITING' or saga_state = 'UNDOING' or saga_state = 'DONE' or saga_state = 'UNDONE'),
    -- When the clock has to look at this order again: unpaid, or a step that does not answer.
    due_at BIGINT,
    expires_at BIGINT not null,
    -- Paid in the same call: a refused payment then undoes the order.
    paid_inline BOOLEAN not null,
    -- Its lines leave the cart when it is paid.
    from_cart BOOLEAN not null,
    method TEXT,
    payment_id UUID,
    payment_token TEXT,
    -- Where an order that is being undone will end, and why.
    ending TEXT,
    code TEXT,
    detail TEXT,
    idempotency_key TEXT not null,
    events BIGINT not null,
    steps BIGINT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    paid_at BIGINT,
    check (total = subtotal - discount - points_used + shipping)
) without rowid;
create index orders_orders_member on orders_orders (member_id, id);
create index orders_orders_due on orders_orders (due_at) where due_at is not null;

create table orders_lines (
    order_id UUID not null,
    line_no BIGINT not null,
    sku UUID not null,
    product_id UUID not null,
    store_id UUID not null,
    name TEXT not null,
    quantity BIGINT not null check (quantity > 0),
    unit_price BIGINT not null check (unit_price >= 0),
    line_discount BIGINT not null check (line_discount >= 0),
    policy TEXT not null,
    primary key (order_id, line_no)
) without rowid;
-- A seller's orders, newest first.
create index orders_lines_store on orders_lines (store_id, order_id);

create table orders_coupons (
    order_id UUID not null,
    issued_coupon_id UUID not null,
    name TEXT not null,
    scope TEXT not null,
    store_id UUID,
    base BIGINT not null,
    discount BIGINT not null check (discount >= 0),
    primary key (order_id, issued_coupon_id)
) without rowid;

-- Every change of state, numbered without hole.
create table orders_events (
    order_id UUID not null,
    n BIGINT not null,
    from_state TEXT,
    to_state TEXT not null,
    code TEXT,
    detail TEXT,
    at BIGINT not null,
    primary key (order_id, n)
) without rowid;

-- Every answer of a saga step.
create table orders_steps (
    order_id UUID not null,
    n BIGINT not null,
    step TEXT not null,
    kind TEXT not null check (kind in ('DO', 'UNDO')),
    state TEXT not null check (state = 'OK' or state = 'REFUSED' or state = 'TIMED_OUT'),
    code TEXT,
    detail TEXT,
    started_at BIGINT not null,
    ended_at BIGINT not null,
    primary key (order_id, n)
) without rowid;

-- Answers that wait for their order to come to rest.
create table orders_open_answers (
    order_id UUID not null,
    operation TEXT not null,
    scope UUID not null,
    key TEXT not null,
    -- The request it answers, for the problem it may become.
    trace UUID not null,
    primary key (order_id, operation, scope, key)
) without rowid;

-- `version` counts the changes of a cart, and the orders made from it.
create table orders_carts (
    member_id UUID primary key,
    version BIGINT not null check (version > 0)
) without rowid;

create table orders_cart_items (
    member_id UUID not null,
    sku UUID not null,
    quantity BIGINT not null check (quantity > 0),
    primary key (member_id, sku)
) without rowid;
