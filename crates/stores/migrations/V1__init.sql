create table stores_stores (
    id UUID not null primary key,
    name TEXT not null check (name <> ''),
    -- The member who runs it; none for stores the mall runs itself.
    seller_id UUID,
    created_at BIGINT not null,
    deleted_at BIGINT
) without rowid;
