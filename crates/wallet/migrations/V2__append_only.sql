-- The ledger is append-only (I-L4), whoever writes. Triggers are the one thing the two databases write differently;
-- this is SQLite's text, PostgreSQL has its own under the same number.
create trigger wallet_entries_no_update before update on wallet_entries
begin select raise(abort, 'wallet_entries is append-only'); end;
create trigger wallet_entries_no_delete before delete on wallet_entries
begin select raise(abort, 'wallet_entries is append-only'); end;
create trigger wallet_transactions_no_update before update on wallet_transactions
begin select raise(abort, 'wallet_transactions is append-only'); end;
create trigger wallet_transactions_no_delete before delete on wallet_transactions
begin select raise(abort, 'wallet_transactions is append-only'); end;
