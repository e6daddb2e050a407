-- What a browser signs in with instead of tokens: a cookie of the same session. As with refresh tokens, only the SHA-256 of 32 random bytes
-- is stored. A row is gone when its session ends.
create table accounts_web_sessions (
    hash BYTEA not null primary key,
    session_id UUID not null references accounts_sessions (id),
    expires_at BIGINT not null
) without rowid;

create index accounts_web_sessions_session on accounts_web_sessions (session_id);
-- For pruning.
create index accounts_web_sessions_expiry on accounts_web_sessions (expires_at);
