-- Schema 6. Values from alerts are named by a hash under this key: nobody who lacks it can recognise them by guessing.

CREATE TABLE naming (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    key TEXT NOT NULL
);
INSERT INTO naming VALUES (1, lower(hex(randomblob(32))));
UPDATE alerts SET content = '';
DELETE FROM windows;
