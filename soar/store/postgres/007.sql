-- Schema 7. What is still to be sent to Kafka: dead letters, and the journal from a position on.

ALTER TABLE dead_letters ADD COLUMN sent BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX dead_letters_to_send ON dead_letters (id) WHERE NOT sent;

CREATE TABLE outboxes (
    name     TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL,      -- index of the journal's entry that comes next
    owner    TEXT NOT NULL,        -- who sends, until then
    until    TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 10);
