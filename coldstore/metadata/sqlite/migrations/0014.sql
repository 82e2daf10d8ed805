-- What an operator says a user may do: policies as JSON (coldstore.plan.policy), each under a name.
CREATE TABLE user_policies (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
