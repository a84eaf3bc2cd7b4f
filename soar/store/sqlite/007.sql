-- Schema 7. What is still to be sent to Kafka: dead letters, and the journal from a position on.

ALTER TABLE dead_letters ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dead_letters_to_send ON dead_letters (id) WHERE sent = 0;

CREATE TABLE outboxes (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL, -- index of the journal's entry that comes next
    owner    TEXT NOT NULL,    -- who sends, until then
    until    TEXT NOT NULL
) WITHOUT ROWID;
