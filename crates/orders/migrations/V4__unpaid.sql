-- One row per member that placed an order without payment. It guards the member's open unpaid orders: a new one is counted under its lock.
create table orders_unpaid (
    member_id UUID primary key,
    -- Unpaid orders that the member let go, and the end of the pause that follows.
    lapses BIGINT not null check (lapses >= 0),
    paused_until BIGINT
) without rowid;
-- A member's open unpaid orders.
create index orders_orders_unpaid on orders_orders (member_id)
    where not paid_inline and paid_at is null and (saga_state = 'RUNNING' or saga_state = 'WAITING');
-- When the lines, coupons and steps of an order that ended unpaid were dropped.
alter table orders_orders add column compacted_at BIGINT;
create index orders_orders_ended on orders_orders (updated_at)
    where saga_state = 'UNDONE' and paid_at is null and compacted_at is null;
