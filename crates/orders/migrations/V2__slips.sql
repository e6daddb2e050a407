-- Choreographed orders: the number of the last slip an order sent off. Null: the order is orchestrated.
alter table orders_orders add column slip_run BIGINT;
