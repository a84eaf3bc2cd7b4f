-- Schema 2. A run that a person holds keeps its state; it is not leased, records no intent and begins no sub-run.

ALTER TABLE runs ADD COLUMN paused BOOLEAN NOT NULL DEFAULT FALSE;
