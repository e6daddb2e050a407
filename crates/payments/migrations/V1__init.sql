-- Attempts to pay orders. `captured_at` says whether money was taken; it stays when the money is given back.
-- A payment of 0 is approved without asking anyone and has neither provider key nor refund.
create table payments_payments (
    id UUID not null primary key,
    order_id UUID not null,
    member_id UUID not null,
    method TEXT not null check (method = 'wallet' or method = 'none' or method = 'test'),
    amount BIGINT not null,
    state TEXT not null check (state = 'INTENT' or state = 'UNKNOWN' or state = 'APPROVED' or state = 'FAILED' or state = 'CANCELLED'),
    -- The provider's side: under this key it charges at most once. Derived from the id, and so as unique; kept for comparing the books.
    provider_key TEXT,
    provider_ref TEXT,
    -- What the provider needs from the buyer, should it have to be asked again.
    token TEXT,
    code TEXT,
    detail TEXT,
    attempts BIGINT not null,
    -- When the provider is to be asked what became of it; null when nobody has to ask.
    next_try_at BIGINT,
    -- No call of ours to charge it is made after this instant.
    called_until BIGINT,
    created_at BIGINT not null,
    -- Of the last change of state: how long it is unknown is counted from here.
    updated_at BIGINT not null,
    captured_at BIGINT,
    check (state <> 'APPROVED' or captured_at is not null),
    check (state <> 'FAILED' or code is not null),
    check (amount >= 0 or state = 'FAILED')
) without rowid;

-- An order is paid once: it has at most one payment that is approved or may yet be (I-P1). Also how an order's payment is found.
create unique index payments_live on payments_payments (order_id) where state <> 'FAILED' and state <> 'CANCELLED';
create index payments_due on payments_payments (next_try_at) where next_try_at is not null;

-- Money on its way back: the whole of a payment, once.
create table payments_refunds (
    id UUID not null primary key,
    payment_id UUID not null unique,
    order_id UUID not null,
    amount BIGINT not null check (amount > 0),
    state TEXT not null check (state in ('PENDING', 'DONE')),
    provider_ref TEXT,
    attempts BIGINT not null,
    next_try_at BIGINT,
    created_at BIGINT not null,
    updated_at BIGINT not null
) without rowid;
create index payments_refunds_due on payments_refunds (next_try_at) where next_try_at is not null;

-- Orders that are undone: nothing captured for them is kept, and a payment that is asked for later is refused.
create table payments_cancellations (
    order_id UUID not null primary key,
    state TEXT not null check (state in ('WAITING', 'DONE')),
    created_at BIGINT not null,
    updated_at BIGINT not null
) without rowid;
