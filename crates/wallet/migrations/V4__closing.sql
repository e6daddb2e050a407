-- When the member closed the account: it takes no charges and no points from then on.
alter table wallet_accounts add column closed_at BIGINT;

-- A further kind, for the points that end with an account. SQLite changes a check only by a new table; PostgreSQL has its own text under
-- the same number. Comments of the columns are in the first migration.
create table wallet_transactions_next (
    id UUID not null primary key,
    kind TEXT not null check (kind = 'charge' or kind = 'grant' or kind = 'use' or kind = 'return' or kind = 'earn' or kind = 'earn_back' or kind = 'pay' or kind = 'refund' or kind = 'forfeit'),
    ref UUID not null,
    order_id UUID,
    amount BIGINT not null,
    refused TEXT,
    reason TEXT,
    granted_by UUID,
    at BIGINT not null
) without rowid;
insert into wallet_transactions_next (id, kind, ref, order_id, amount, refused, reason, granted_by, at)
select id, kind, ref, order_id, amount, refused, reason, granted_by, at from wallet_transactions;
drop table wallet_transactions;
alter table wallet_transactions_next rename to wallet_transactions;
create trigger wallet_transactions_no_update before update on wallet_transactions
begin select raise(abort, 'wallet_transactions is append-only'); end;
create trigger wallet_transactions_no_delete before delete on wallet_transactions
begin select raise(abort, 'wallet_transactions is append-only'); end;
