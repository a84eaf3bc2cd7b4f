-- Schema 1. Times are RFC 3339 UTC text of fixed width, so they compare as text.

CREATE TABLE records (
    coordinates TEXT PRIMARY KEY,
    at          TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE alerts (
    id          TEXT PRIMARY KEY,
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
    time        TEXT NOT NULL,
    received_at TEXT NOT NULL,
    entry_id    TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX alerts_by_uid ON alerts (source, uid, received_at);
CREATE INDEX alerts_by_outcome ON alerts (outcome, id);

CREATE TABLE dead_letters (
    id          TEXT PRIMARY KEY,
    coordinates TEXT NOT NULL,
    code        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    at          TEXT NOT NULL,
    record      TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE windows (
    key        TEXT PRIMARY KEY,
    started_at TEXT NOT NULL,
    until      TEXT NOT NULL,
    count      INTEGER NOT NULL,
    run_id     TEXT
) WITHOUT ROWID;

CREATE TABLE playbooks (
    digest      TEXT PRIMARY KEY,
    playbook_id TEXT NOT NULL,
    file        TEXT NOT NULL,
    text        TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE runs (
    id               TEXT PRIMARY KEY,
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
    epoch            INTEGER NOT NULL,
    owner            TEXT,
    lease_until      TEXT,
    wake_at          TEXT,
    signalled        INTEGER NOT NULL DEFAULT 0,
    locked           INTEGER NOT NULL DEFAULT 0, -- holds its lock_key, from its first lease until it ends
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    outputs          TEXT NOT NULL,
    error            TEXT,
    created_at       TEXT NOT NULL,
    finished_at      TEXT,
    entry_seq        INTEGER NOT NULL DEFAULT 0,
    entry_hash       TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX runs_ready ON runs (priority DESC, id) WHERE state = 'ready';
CREATE INDEX runs_due ON runs (wake_at) WHERE state = 'waiting';
CREATE INDEX runs_leased ON runs (lease_until) WHERE state = 'running';
CREATE INDEX runs_locked ON runs (lock_key, id) WHERE lock_key IS NOT NULL
    AND state IN ('ready', 'running', 'waiting', 'needs_review');
CREATE INDEX runs_by_alert ON runs (alert_id);
CREATE INDEX runs_by_parent ON runs (parent_run_id, parent_path) WHERE parent_run_id IS NOT NULL;

CREATE TABLE steps (
    run_id TEXT NOT NULL,
    path   TEXT NOT NULL,
    state  TEXT NOT NULL,
    record TEXT NOT NULL,
    awaits_alert INTEGER NOT NULL,
    PRIMARY KEY (run_id, path)
) WITHOUT ROWID;
CREATE INDEX steps_awaiting_alerts ON steps (awaits_alert) WHERE awaits_alert = 1;

CREATE TABLE attempts (
    run_id  TEXT NOT NULL,
    path    TEXT NOT NULL,
    number  INTEGER NOT NULL,
    state   TEXT NOT NULL,
    effect  TEXT NOT NULL,
    attempt TEXT NOT NULL,
    PRIMARY KEY (run_id, path, number)
) WITHOUT ROWID;

-- One row per thing that an intent counts against: blast-radius limits read it.
CREATE TABLE acted (
    key TEXT NOT NULL,
    at  TEXT NOT NULL,
    run_id TEXT NOT NULL,
    path   TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (key, at, run_id, path, number)
) WITHOUT ROWID;

CREATE TABLE approvals (
    id         TEXT PRIMARY KEY,
    run_id     TEXT NOT NULL,
    path       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'granted', 'denied', 'expired', 'cancelled',
                                              'superseded', 'consumed')),
    votes      INTEGER NOT NULL,
    decide_by  TEXT NOT NULL,
    execute_by TEXT,
    approval   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX approvals_open ON approvals (state, decide_by) WHERE state IN ('pending', 'granted');
CREATE INDEX approvals_by_run ON approvals (run_id);

CREATE TABLE control (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The journal. `idx` is the leaf's index in the tree; nothing here is ever changed.
CREATE TABLE entries (
    idx       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    type      TEXT NOT NULL,
    at        TEXT NOT NULL,
    run_id    TEXT,
    leaf      BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
);
CREATE INDEX entries_by_run ON entries (run_id, idx) WHERE run_id IS NOT NULL;

-- What an entry's leaf only commits to; deleting a row erases it and breaks no proof.
CREATE TABLE payloads (
    entry_id TEXT PRIMARY KEY,
    salt     BLOB NOT NULL,
    body     BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE tree (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    size     INTEGER NOT NULL,
    frontier BLOB NOT NULL
);

CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);

-- The same checkpoints with the lines of their witnesses, who answer later or never.
CREATE TABLE cosigned (
    size INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);

-- Roots over 256, 65536, ... entries, for proofs. They follow from the leaves and may be thrown away.
CREATE TABLE subtrees (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) WITHOUT ROWID;

-- REPLACE deletes without firing delete triggers, so it is refused where it begins.
CREATE TRIGGER entries_are_new BEFORE INSERT ON entries
    WHEN EXISTS (SELECT 1 FROM entries WHERE idx = NEW.idx OR id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entries_are_final BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER checkpoints_are_final BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER checkpoints_stay BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER payloads_are_final BEFORE UPDATE ON payloads
    BEGIN SELECT RAISE(ABORT, 'a payload is erased whole or kept as it is'); END;
