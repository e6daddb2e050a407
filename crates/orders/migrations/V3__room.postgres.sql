-- Rows that change soon and often. With room on its page a new version needs no entries in the indexes, and goes when the page is next looked at.
alter table orders_orders set (fillfactor = 50);
