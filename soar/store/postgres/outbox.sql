-- What is still to be sent.

-- name: hold
INSERT INTO outboxes SELECT $1, size, $2, $4 FROM tree
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE outboxes.owner = excluded.owner OR outboxes.until < $3
RETURNING position

-- name: advance
UPDATE outboxes SET position = $3 WHERE name = $1 AND owner = $2 RETURNING 1

-- name: release
UPDATE outboxes SET owner = '', until = '-infinity' WHERE name = $1 AND owner = $2

-- name: unsent_letters
SELECT id, code, reason, at, record FROM dead_letters WHERE NOT sent ORDER BY id LIMIT $1

-- name: letters_sent
UPDATE dead_letters SET sent = TRUE WHERE id = ANY ($1::text[])

-- name: unsent
SELECT (SELECT count(*) FROM dead_letters WHERE NOT sent) AS letters,
    (SELECT size - position FROM tree, outboxes WHERE name = $1) AS entries

-- name: consumed
SELECT coordinates FROM records WHERE digest = ANY ($1::bytea[])
