-- Schema 1. Names are compared as bytes (COLLATE "C"), so ULIDs sort by time whatever the database's locale. Text that
-- attackers choose is never a btree key by itself: such keys end at 2,704 bytes, and the row would be refused.

CREATE TABLE records (
    digest      BYTEA PRIMARY KEY, -- SHA-256 of the coordinates
    coordinates TEXT NOT NULL,
    at          TIMESTAMPTZ NOT NULL
);

CREATE TABLE alerts (
    id          TEXT COLLATE "C" PRIMARY KEY,
    uid         TEXT NOT NULL,
    source      TEXT NOT NULL,
    coordinates TEXT NOT NULL,
    content     TEXT NOT NULL,
    title       TEXT NOT NULL,
    severity    TEXT NOT NULL,
    rule_id     TEXT,
    rule_name   TEXT,
    outcome     TEXT NOT NULL,
    matches     TEXT NOT NULL,
    time        TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    entry_id    TEXT COLLATE "C" NOT NULL
);
CREATE INDEX alerts_by_uid ON alerts (hashtextextended(uid, 0), received_at);
CREATE INDEX alerts_by_outcome ON alerts (outcome, id);

CREATE TABLE dead_letters (
    id          TEXT COLLATE "C" PRIMARY KEY,
    coordinates TEXT NOT NULL,
    code        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    at          TIMESTAMPTZ NOT NULL,
    record      TEXT NOT NULL
);

CREATE TABLE windows (
    key        TEXT COLLATE "C" PRIMARY KEY,
    started_at TIMESTAMPTZ NOT NULL,
    until      TIMESTAMPTZ NOT NULL,
    count      BIGINT NOT NULL,
    run_id     TEXT
);

-- What an admission claims while it decides: hashes of coordinates, alert names and windows. Rows live only inside a
-- transaction (whoever claims the same waits for its end), so there is nothing to keep in a crash.
CREATE UNLOGGED TABLE claims (
    key BIGINT PRIMARY KEY
);

CREATE TABLE playbooks (
    digest      TEXT COLLATE "C" PRIMARY KEY,
    playbook_id TEXT NOT NULL,
    file        TEXT NOT NULL,
    text        TEXT NOT NULL
);

CREATE TABLE runs (
    id               TEXT COLLATE "C" PRIMARY KEY,
    kind             TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('ready', 'running', 'waiting', 'succeeded', 'failed',
                                                    'denied', 'cancelled', 'needs_review')),
    playbook_id      TEXT NOT NULL,
    playbook_digest  TEXT NOT NULL,
    alert_id         TEXT,
    parent_run_id    TEXT,
    parent_path      TEXT,
    vars             TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    lock_key         TEXT,
    depth            INTEGER NOT NULL,
    epoch            BIGINT NOT NULL,
    owner            TEXT,
    lease_until      TIMESTAMPTZ,
    wake_at          TIMESTAMPTZ,
    signalled        BOOLEAN NOT NULL DEFAULT FALSE,
    locked           BOOLEAN NOT NULL DEFAULT FALSE, -- holds its lock_key, from its first lease until it ends
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    outputs          TEXT NOT NULL,
    error            TEXT,
    created_at       TIMESTAMPTZ NOT NULL,
    finished_at      TIMESTAMPTZ
) WITH (fillfactor = 70);
CREATE INDEX runs_ready ON runs (priority DESC, id) WHERE state = 'ready';
CREATE INDEX runs_due ON runs (wake_at) WHERE state = 'waiting';
CREATE INDEX runs_leased ON runs (lease_until) WHERE state = 'running';
CREATE INDEX runs_by_alert ON runs (alert_id) WHERE alert_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run_id, parent_path) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_by_lock ON runs (lock_key, id)
    WHERE lock_key IS NOT NULL AND state IN ('ready', 'running', 'waiting', 'needs_review');
-- Two workers that look at the same moment may both find a lock free; this lets only one of them have it.
CREATE UNIQUE INDEX runs_lock_holder ON runs (lock_key) WHERE locked;

CREATE TABLE steps (
    run_id       TEXT COLLATE "C" NOT NULL,
    path         TEXT COLLATE "C" NOT NULL,
    state        TEXT NOT NULL,
    record       TEXT NOT NULL,
    awaits_alert BOOLEAN NOT NULL,
    PRIMARY KEY (run_id, path)
);
CREATE INDEX steps_awaiting_alerts ON steps (run_id) WHERE awaits_alert;

CREATE TABLE attempts (
    run_id  TEXT COLLATE "C" NOT NULL,
    path    TEXT COLLATE "C" NOT NULL,
    number  BIGINT NOT NULL,
    state   TEXT NOT NULL,
    effect  TEXT NOT NULL,
    attempt TEXT NOT NULL,
    PRIMARY KEY (run_id, path, number)
);

-- One row per thing that an intent counts against: blast-radius limits read it.
CREATE TABLE acted (
    key    TEXT NOT NULL,
    at     TIMESTAMPTZ NOT NULL,
    run_id TEXT NOT NULL,
    path   TEXT NOT NULL,
    number BIGINT NOT NULL
);
CREATE INDEX acted_by_key ON acted (hashtextextended(key, 0), at);

CREATE TABLE approvals (
    id         TEXT COLLATE "C" PRIMARY KEY,
    run_id     TEXT COLLATE "C" NOT NULL,
    path       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'granted', 'denied', 'expired', 'cancelled',
                                              'superseded', 'consumed')),
    votes      BIGINT NOT NULL,
    decide_by  TIMESTAMPTZ NOT NULL,
    execute_by TIMESTAMPTZ,
    approval   TEXT NOT NULL
);
CREATE INDEX approvals_pending ON approvals (decide_by) WHERE state = 'pending';
CREATE INDEX approvals_granted ON approvals (execute_by) WHERE state = 'granted';
CREATE INDEX approvals_by_run ON approvals (run_id);

CREATE TABLE control (
    key   TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- The journal. `idx` is the leaf's index in the tree; nothing here is ever changed.
CREATE TABLE entries (
    idx       BIGINT PRIMARY KEY,
    id        TEXT COLLATE "C" NOT NULL UNIQUE,
    type      TEXT NOT NULL,
    at        TIMESTAMPTZ NOT NULL,
    run_id    TEXT COLLATE "C",
    run_seq   BIGINT,
    leaf      BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL,
    UNIQUE (run_id, run_seq), -- a run's chain cannot fork
    CHECK ((run_id IS NULL) = (run_seq IS NULL))
);

-- What an entry's leaf only commits to; deleting a row erases it and breaks no proof.
CREATE TABLE payloads (
    entry_id TEXT COLLATE "C" PRIMARY KEY,
    salt     BYTEA NOT NULL,
    body     BYTEA NOT NULL
) WITH (toast_tuple_target = 8160); -- an alert of usual size stays in its row: moving it away doubles the cost

-- One row. Whoever holds it appends: that makes the order of the tree the order of the commits.
CREATE TABLE tree (
    one      BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    size     BIGINT NOT NULL,
    frontier BYTEA NOT NULL
) WITH (fillfactor = 10);
INSERT INTO tree (size, frontier) VALUES (0, '\x010000000000000000');

CREATE TABLE checkpoints (
    size BIGINT PRIMARY KEY,
    text TEXT NOT NULL
);

-- The same checkpoints with the lines of their witnesses, who answer later or never.
CREATE TABLE cosigned (
    size BIGINT PRIMARY KEY,
    text TEXT NOT NULL
);

-- Roots over 256, 65536, ... entries, for proofs. They follow from the leaves and may be thrown away.
CREATE TABLE subtrees (
    level INTEGER NOT NULL,
    idx   BIGINT NOT NULL,
    hash  BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: no %', TG_TABLE_NAME, TG_OP;
END $$;
CREATE TRIGGER entries_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoints_are_final BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER payloads_are_final BEFORE UPDATE OR TRUNCATE ON payloads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
