-- Schema 3. Turns at connector instances that have limits: who waits for one, for whom one is kept, who has one.

CREATE TABLE paces (
    instance TEXT PRIMARY KEY,
    limits   TEXT NOT NULL, -- JSON, as the latest to come had them
    due      TEXT,          -- when the rate is used up to, and a call more is in time
    seen     TEXT,
    given    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE turns (
    run_id   TEXT NOT NULL,
    path     TEXT NOT NULL,
    instance TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('queued', 'called', 'taken')),
    priority INTEGER NOT NULL,
    arrived  TEXT NOT NULL,
    until    TEXT, -- of a turn that is kept or taken: it is free again then in any case
    PRIMARY KEY (run_id, path)
) WITHOUT ROWID;
CREATE INDEX turns_queue ON turns (instance, priority DESC, arrived, run_id, path) WHERE state = 'queued';
CREATE INDEX turns_oldest ON turns (instance, arrived, run_id, path) WHERE state = 'queued';
CREATE INDEX turns_in_use ON turns (instance, until) WHERE state IN ('called', 'taken');
