-- Rows that change soon and often. With room on its page a new version needs no entries in the indexes, and goes when the page is next looked at.
alter table stock_reservations set (fillfactor = 50);
alter table stock_holds set (fillfactor = 50);
