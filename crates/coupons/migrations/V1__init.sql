-- A coupon as it was announced, and how far it has been given out. One row is everything a claim decides on, so a rush on one coupon
-- loads and saves one row a transaction, however many claims that settles.
create table coupons_definitions (
    id UUID not null primary key,
    name TEXT not null,
    -- The name in lower case: both databases then search alike.
    search TEXT not null,
    -- Exactly one of the two kinds of discount.
    discount_won BIGINT,
    discount_basis_points BIGINT,
    discount_max_won BIGINT,
    scope TEXT not null check (scope = 'item' or scope = 'store' or scope = 'order'),
    store_id UUID,
    min_order BIGINT not null check (min_order >= 0),
    per_member BIGINT not null check (per_member >= 1),
    reissue_after_cancel BOOLEAN not null,
    -- Null: without limit.
    quantity BIGINT check (quantity >= 1),
    waitlist BOOLEAN not null,
    issue_from BIGINT not null,
    issue_until BIGINT not null,
    -- The earlier of issue_until and valid_until: nobody is given a coupon that has expired.
    closes_at BIGINT not null,
    valid_from BIGINT,
    valid_until BIGINT,
    valid_days BIGINT check (valid_days >= 1),
    -- Coupons that count against the quantity: all but those given back, or expired while others could still have them.
    issued BIGINT not null,
    next_number BIGINT not null,
    next_ticket BIGINT not null,
    -- No ticket below this one waits.
    head_ticket BIGINT not null,
    waiting BIGINT not null,
    -- Coupons with lower numbers were looked at for expiry; the next look is due at expire_at.
    expire_number BIGINT not null,
    expire_at BIGINT,
    created_at BIGINT not null,
    deleted_at BIGINT,
    -- Counts the saves of this row; memory of an older state is dropped by it.
    version BIGINT not null,
    check ((discount_won is null) <> (discount_basis_points is null)),
    check (discount_won > 0),
    check (discount_basis_points between 1 and 10000),
    check (discount_max_won > 0),
    check (scope <> 'store' or store_id is not null),
    check (issue_from < issue_until),
    check (valid_until is not null or valid_days is not null),
    check (issued between 0 and coalesce(quantity, issued)),
    check (waiting between 0 and next_ticket - head_ticket)
) without rowid;

create index coupons_definitions_expire_at on coupons_definitions (expire_at);
-- Few at any time: what the jobs that close and serve waitlists look at.
create index coupons_definitions_queues on coupons_definitions (closes_at) where waiting > 0;

-- One coupon in one member's hands.
create table coupons_issued (
    id UUID not null primary key,
    coupon_id UUID not null,
    member_id UUID not null,
    -- The member's first, second … of this coupon.
    nth BIGINT not null check (nth >= 1),
    -- 1, 2, 3 … in the order of issue, without hole, also over those given back.
    number BIGINT not null check (number >= 1),
    state TEXT not null check (state = 'ISSUED' or state = 'HELD' or state = 'USED' or state = 'CANCELLED' or state = 'EXPIRED'),
    issued_at BIGINT not null,
    expires_at BIGINT not null,
    order_id UUID,
    -- When the order took it: within the validity, however late the payment.
    used_at BIGINT,
    -- An expired coupon whose unit went back to the pool.
    slot_returned BOOLEAN not null,
    check ((order_id is not null) = (state in ('HELD', 'USED'))),
    check ((used_at is not null) = (state = 'USED')),
    check (used_at < expires_at)
) without rowid;

-- Once per member and count, whatever the code believes; led by the member, so that it also serves "my coupons".
create unique index coupons_issued_member on coupons_issued (member_id, coupon_id, nth);
create unique index coupons_issued_number on coupons_issued (coupon_id, number);

-- Who waits for a coupon to come free, in the order of the tickets. One entry per member; joining again takes a new ticket.
create table coupons_waiting (
    coupon_id UUID not null,
    ticket BIGINT not null check (ticket >= 1),
    member_id UUID not null,
    state TEXT not null check (state = 'WAITING' or state = 'ADMITTED' or state = 'LEFT' or state = 'CLOSED'),
    at BIGINT not null,
    primary key (coupon_id, ticket)
) without rowid;

create unique index coupons_waiting_member on coupons_waiting (coupon_id, member_id);

-- A Fenwick tree over the tickets, counting those who left out of turn: a position is a subtraction and a few point reads,
-- and joining writes nothing here.
create table coupons_departures (
    coupon_id UUID not null,
    node BIGINT not null,
    departed BIGINT not null,
    primary key (coupon_id, node)
) without rowid;

-- What an order did with its coupons. A row also stands for an undo that came first (TOMBSTONE), and for a refusal, so that each
-- step can be repeated.
create table coupons_holds (
    order_id UUID not null primary key,
    state TEXT not null check (state = 'HELD' or state = 'USED' or state = 'RELEASED' or state = 'REFUSED' or state = 'TOMBSTONE'),
    -- The ids of the held coupons, 16 bytes each: read and written whole, so a row of their own each would only cost.
    coupons BYTEA not null,
    held_at BIGINT not null,
    -- When the order should have ended; an order that outlives it by far is stuck.
    expires_at BIGINT not null,
    refusal_code TEXT,
    refusal_detail TEXT,
    check ((refusal_code is not null) = (state = 'REFUSED'))
) without rowid;
