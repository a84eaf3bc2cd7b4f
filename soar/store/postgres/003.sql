-- Schema 3. Turns at connector instances that have limits: who waits for one, for whom one is kept, who has one.

CREATE TABLE paces (
    instance TEXT COLLATE "C" PRIMARY KEY,
    limits   TEXT NOT NULL, -- JSON, as the latest to come had them
    due      TIMESTAMPTZ,   -- when the rate is used up to, and a call more is in time
    seen     TIMESTAMPTZ,
    given    BIGINT NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE turns (
    run_id   TEXT COLLATE "C" NOT NULL,
    path     TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('queued', 'called', 'taken')),
    priority INTEGER NOT NULL,
    arrived  TIMESTAMPTZ NOT NULL,
    until    TIMESTAMPTZ, -- of a turn that is kept or taken: it is free again then in any case
    PRIMARY KEY (run_id, path)
);
CREATE INDEX turns_queue ON turns (instance, priority DESC, arrived, run_id, path) WHERE state = 'queued';
CREATE INDEX turns_oldest ON turns (instance, arrived, run_id, path) WHERE state = 'queued';
CREATE INDEX turns_in_use ON turns (instance, until) WHERE state IN ('called', 'taken');
