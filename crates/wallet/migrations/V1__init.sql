-- Where money and points stand now: one row per owner and kind. The mall itself is the owner whose id is all zero.
-- The pair is the key, so a member's two accounts lie side by side and no table translates account ids.
create table wallet_accounts (
    owner_id UUID not null,
    kind TEXT not null check (kind = 'CASH' or kind = 'REWARD' or kind = 'CASH_IN' or kind = 'SALES' or kind = 'POINTS_GRANTED' or kind = 'POINTS_SPENT'),
    balance BIGINT not null,
    -- Part of the balance that orders hold; it cannot be spent otherwise.
    held BIGINT not null check (held >= 0),
    -- Number of the account's last entry.
    entries BIGINT not null,
    -- Hash of the account's last entry; each entry's hash covers the one before.
    head BYTEA not null,
    -- Transaction of the account's last entry: where reading its history begins.
    last_tx UUID,
    -- Counts saves. A save names the version it read and changes no row when another came first. `entries` does not do for this,
    -- because a hold changes no entry.
    version BIGINT not null,
    primary key (owner_id, kind),
    check (kind not in ('CASH', 'REWARD') or (balance >= 0 and held <= balance))
) without rowid;

-- Causes and what became of them: one row per cause, ever (I-L5). The id is made of `ref`, with the kind where a UUID has its version:
-- the primary key is what refuses a second transaction for a cause.
create table wallet_transactions (
    id UUID not null primary key,
    kind TEXT not null check (kind = 'charge' or kind = 'grant' or kind = 'use' or kind = 'return' or kind = 'earn' or kind = 'earn_back' or kind = 'pay' or kind = 'refund'),
    -- What caused it: the order, the payment, or for charges and grants the transaction itself.
    ref UUID not null,
    order_id UUID,
    amount BIGINT not null,
    -- Set when nothing moved, with the reason: a payment that was refused, or taken back before it came. It has no entries.
    refused TEXT,
    reason TEXT,
    granted_by UUID,
    at BIGINT not null
) without rowid;

-- Every movement, two entries a transaction. Keyed by transaction and not by account: ids of transactions grow with time, so entries
-- are written near the end of the table, where dozens share a page. An account's own entries are chained backwards by `previous_tx`.
create table wallet_entries (
    tx_id UUID not null,
    owner_id UUID not null,
    kind TEXT not null,
    -- 1, 2, 3 … within the account.
    n BIGINT not null check (n > 0),
    amount BIGINT not null check (amount <> 0),
    balance_after BIGINT not null,
    at BIGINT not null,
    hash BYTEA not null,
    previous_tx UUID,
    primary key (tx_id, owner_id, kind),
    check (kind not in ('CASH', 'REWARD') or balance_after >= 0)
) without rowid;

-- Points an order holds, or held. A hold is a counter on the account and not a movement: an order that fails leaves no trace in the ledger.
create table wallet_holds (
    order_id UUID not null primary key,
    -- Unknown for a tombstone.
    member_id UUID,
    amount BIGINT not null check (amount >= 0),
    state TEXT not null check (state = 'HELD' or state = 'USED' or state = 'RELEASED' or state = 'RETURNED' or state = 'REFUSED' or state = 'TOMBSTONE'),
    refused TEXT,
    -- When the order should long have come back for it; the order's undo ends the hold, never the wallet by itself.
    expires_at BIGINT,
    at BIGINT not null,
    check (state = 'TOMBSTONE' or member_id is not null)
) without rowid;
