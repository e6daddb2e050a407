create table @service@_entries (
    id UUID not null primary key,
    member_id UUID not null,
    name TEXT not null check (name <> ''),
    created_at BIGINT not null
) without rowid;
