-- The ledger is append-only (I-L4), whoever writes. PostgreSQL's text of what SQLite has under the same number.
create function wallet_append_only() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'integrity_constraint_violation';
end
$$;
create trigger wallet_entries_append_only before update or delete on wallet_entries
for each row execute function wallet_append_only();
create trigger wallet_entries_no_truncate before truncate on wallet_entries
for each statement execute function wallet_append_only();
create trigger wallet_transactions_append_only before update or delete on wallet_transactions
for each row execute function wallet_append_only();
create trigger wallet_transactions_no_truncate before truncate on wallet_transactions
for each statement execute function wallet_append_only();
