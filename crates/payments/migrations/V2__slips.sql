-- Choreographed orders: the slip that asked for a payment, or for its undoing, goes on when that is settled. Null: the order is orchestrated.
alter table payments_payments add column slip TEXT;
alter table payments_cancellations add column slip TEXT;
