-- What an auditor asks; nothing here needs more than SELECT.

-- name: entries
SELECT idx, id, type, at, run_id, leaf, leaf_hash, salt, body FROM entries LEFT JOIN payloads ON entry_id = id

-- name: leaves
SELECT leaf FROM entries WHERE type = $1 ORDER BY idx

-- name: checkpoints
SELECT text FROM checkpoints ORDER BY size DESC LIMIT $1

-- name: cosigned
SELECT text FROM cosigned ORDER BY size DESC LIMIT 1

-- name: guards
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('entries'::regclass, 'checkpoints'::regclass, 'payloads'::regclass)
    AND tgenabled IN ('O', 'A')

-- name: alerts_without_entry
SELECT alerts.id, entry_id FROM alerts LEFT JOIN entries ON entries.id = entry_id WHERE entries.id IS NULL

-- name: payloads_without_entry
SELECT entry_id FROM payloads LEFT JOIN entries ON id = entry_id WHERE id IS NULL

-- name: erased_payloads
-- A leaf is canonical JSON without escapes in ids, so the subject needs no parser that a damaged leaf would stop.
SELECT entry_id FROM payloads WHERE entry_id IN (
    SELECT substring(encode(leaf, 'escape') FROM '"subject":"([^"\\]*)","type":"payload\.erased"')
    FROM entries WHERE type = 'payload.erased')

-- name: runs_without_row
SELECT run_id, min(idx) FROM entries
WHERE run_id IS NOT NULL AND NOT EXISTS (SELECT FROM runs WHERE runs.id = run_id)
GROUP BY run_id HAVING $1::timestamptz IS NULL OR max(at) >= $1

-- name: checkpoints_of_other_size
SELECT size FROM checkpoints WHERE position(E'\n' || size || E'\n' IN text) = 0
