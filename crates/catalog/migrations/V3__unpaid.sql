-- Most units of a SKU that a member's unpaid orders may reserve. Null: the mall's default.
alter table catalog_products add column max_unpaid BIGINT check (max_unpaid >= 0);
