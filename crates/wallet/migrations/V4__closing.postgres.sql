-- When the member closed the account: it takes no charges and no points from then on.
alter table wallet_accounts add column closed_at BIGINT;

-- A further kind, for the points that end with an account. Existing rows need no check: they have one of the old kinds.
alter table wallet_transactions drop constraint wallet_transactions_kind_check;
alter table wallet_transactions add constraint wallet_transactions_kind_check
check (kind = 'charge' or kind = 'grant' or kind = 'use' or kind = 'return' or kind = 'earn' or kind = 'earn_back' or kind = 'pay' or kind = 'refund' or kind = 'forfeit') not valid;
