-- What an operator says a user may do: policies as JSON (coldstore.plan.policy), each under a name.
CREATE TABLE user_policies (
    user_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    document text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, name)
);
