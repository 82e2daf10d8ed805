-- Users have any number of access keys. sealed_secret: the secret, encrypted under a master key that is not in the store; empty
-- while it is still in the clear in plain_secrets, which is so from an upgrade of an older store until its first start. Tables that
-- had secrets in the clear are made anew and dropped, so that none is left in pages that are in use.
CREATE TABLE users_anew (
    user_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    staging_quota_bytes INTEGER,
    disabled_at REAL
) STRICT, WITHOUT ROWID;
INSERT INTO users_anew (user_id, name, created_at, staging_quota_bytes)
    SELECT user_id, name, created_at, staging_quota_bytes FROM users;

CREATE TABLE plain_secrets (
    access_key TEXT PRIMARY KEY,
    secret_key TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO plain_secrets (access_key, secret_key) SELECT access_key, secret_key FROM users;

CREATE TABLE access_keys (
    access_key TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    sealed_secret TEXT NOT NULL,
    created_at REAL NOT NULL,
    disabled_at REAL,
    last_used_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_users ON access_keys (user_id);
INSERT INTO access_keys (access_key, user_id, sealed_secret, created_at) SELECT access_key, user_id, '', created_at FROM users;

DROP TABLE users;
ALTER TABLE users_anew RENAME TO users;

-- Which master keys secrets are encrypted under: one, and while that is being changed two.
CREATE TABLE master_keys (
    check_value TEXT PRIMARY KEY,
    since REAL NOT NULL
) STRICT, WITHOUT ROWID;
