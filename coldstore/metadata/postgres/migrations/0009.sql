-- Users have any number of access keys. sealed_secret: the secret, encrypted under a master key that is not in the store; empty
-- while it is still in the clear in plain_secrets, which is so from an upgrade of an older store until its first start. Tables that
-- had secrets in the clear are made anew and dropped, so that none is left in files that are in use.
CREATE TABLE users_anew (
    user_id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    created_at double precision NOT NULL,
    staging_quota_bytes bigint,
    disabled_at double precision
);
INSERT INTO users_anew (user_id, name, created_at, staging_quota_bytes)
    SELECT user_id, name, created_at, staging_quota_bytes FROM users;

CREATE TABLE plain_secrets (
    access_key text COLLATE "C" PRIMARY KEY,
    secret_key text COLLATE "C" NOT NULL
);
INSERT INTO plain_secrets (access_key, secret_key) SELECT access_key, secret_key FROM users;

CREATE TABLE access_keys (
    access_key text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    sealed_secret text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL,
    disabled_at double precision,
    last_used_at double precision
);
CREATE INDEX keys_of_users ON access_keys (user_id);
INSERT INTO access_keys (access_key, user_id, sealed_secret, created_at) SELECT access_key, user_id, '', created_at FROM users;

DROP TABLE users;
ALTER TABLE users_anew RENAME TO users;
ALTER INDEX users_anew_pkey RENAME TO users_pkey;
ALTER INDEX users_anew_name_key RENAME TO users_name_key;

-- Which master keys secrets are encrypted under: one, and while that is being changed two.
CREATE TABLE master_keys (
    check_value text COLLATE "C" PRIMARY KEY,
    since double precision NOT NULL
);
