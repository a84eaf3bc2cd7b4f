-- Letting go of what is old.

-- name: old_payloads
-- The subject of an alert's entry is its name; a leaf that does not say so keeps its payload.
SELECT entry_id, idx, salt, body, type LIKE 'journal.%' OR EXISTS (SELECT FROM runs WHERE runs.id = run_id)
    OR (type = 'alert.admitted' AND (alert IS NULL OR EXISTS (SELECT FROM alerts WHERE alerts.id = alert))) AS needed
FROM (SELECT * FROM payloads WHERE entry_id > $1 AND entry_id < $2 ORDER BY entry_id LIMIT $3) AS oldest
JOIN entries ON entries.id = entry_id
CROSS JOIN substring(encode(leaf, 'escape') FROM '"subject":"([^"\\]*)","type":"alert\.admitted"') AS alert
ORDER BY idx

-- name: archive
DELETE FROM payloads WHERE entry_id = ANY ($1::text[])

-- name: ended_runs
-- Held, so that none is taken up again meanwhile; who waits for it finds it gone.
SELECT id FROM runs
WHERE id < $1 AND state IN ('succeeded', 'failed', 'denied', 'cancelled') AND finished_at < $2
    AND NOT EXISTS (SELECT FROM runs AS other
        WHERE (other.id = runs.parent_run_id OR other.parent_run_id = runs.id)
        AND NOT coalesce(other.state IN ('succeeded', 'failed', 'denied', 'cancelled') AND other.finished_at < $2, FALSE))
ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED

-- name: forget_steps
DELETE FROM steps WHERE run_id = ANY ($1::text[])

-- name: forget_attempts
DELETE FROM attempts WHERE run_id = ANY ($1::text[])

-- name: forget_approvals
DELETE FROM approvals WHERE run_id = ANY ($1::text[])

-- name: forget_runs
DELETE FROM runs WHERE id = ANY ($1::text[])

-- name: forget_alerts
DELETE FROM alerts WHERE id IN (
    SELECT id FROM alerts WHERE id < $1 AND received_at < $2
        AND NOT EXISTS (SELECT FROM runs WHERE alert_id = alerts.id)
    ORDER BY id LIMIT $3)
RETURNING coordinates

-- name: forget_dead_letters
DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE id < $1 AND at < $2 ORDER BY id LIMIT $3)
RETURNING coordinates

-- name: forget_records
DELETE FROM records WHERE digest = ANY ($1::bytea[])

-- name: forget_windows
DELETE FROM windows WHERE key IN (
    SELECT key FROM windows WHERE until < $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: forget_acted
DELETE FROM acted WHERE ctid IN (SELECT ctid FROM acted WHERE at < $1 ORDER BY at LIMIT $2)
