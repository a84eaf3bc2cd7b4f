-- Schema 6. Values from alerts are named by a hash under this key: nobody who lacks it can recognise them by guessing.

CREATE TABLE naming (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    key TEXT NOT NULL
);
INSERT INTO naming (key) VALUES (replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));
UPDATE alerts SET content = '';
DELETE FROM windows;
