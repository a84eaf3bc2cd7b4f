-- Statements of turns at limited instances. A pace is locked after runs and approvals, and before the tree.

-- name: lock_paces
SELECT instance, limits, due, seen, given FROM paces WHERE instance = ANY ($1::text[]) ORDER BY instance FOR UPDATE

-- name: new_paces
INSERT INTO paces SELECT instance, '{}', NULL, NULL, 0 FROM unnest($1::text[]) AS n (instance) ORDER BY instance
ON CONFLICT DO NOTHING

-- name: asked
SELECT run_id, path, instance, state, priority, arrived, until
FROM unnest($1::text[], $2::text[]) AS k (run_id, path) JOIN turns AS t USING (run_id, path)

-- name: in_use
SELECT instance, run_id, path, state, until FROM turns
WHERE instance = ANY ($1::text[]) AND state IN ('called', 'taken') AND until > $2

-- name: queue
-- Who is paused, cancelled or has ended stands in nobody's way.
SELECT n.instance, q.* FROM unnest($1::text[]) AS n (instance) CROSS JOIN LATERAL (
    (SELECT t.priority, t.arrived, t.run_id, t.path FROM turns AS t
        JOIN runs ON runs.id = t.run_id AND NOT runs.paused AND NOT runs.cancel_requested
            AND runs.state IN ('ready', 'running', 'waiting')
        JOIN steps ON steps.run_id = t.run_id AND steps.path = t.path AND steps.state = 'waiting'
        WHERE t.instance = n.instance AND t.state = 'queued'
        ORDER BY t.priority DESC, t.arrived, t.run_id, t.path LIMIT $2)
    UNION
    (SELECT t.priority, t.arrived, t.run_id, t.path FROM turns AS t
        JOIN runs ON runs.id = t.run_id AND NOT runs.paused AND NOT runs.cancel_requested
            AND runs.state IN ('ready', 'running', 'waiting')
        JOIN steps ON steps.run_id = t.run_id AND steps.path = t.path AND steps.state = 'waiting'
        WHERE t.instance = n.instance AND t.state = 'queued'
        ORDER BY t.arrived, t.run_id, t.path LIMIT $2 / 10)
) AS q

-- name: paces
INSERT INTO paces SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
ON CONFLICT (instance) DO UPDATE SET limits = excluded.limits, due = excluded.due, seen = excluded.seen,
    given = excluded.given

-- name: turns
INSERT INTO turns SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[],
    $6::timestamptz[], $7::timestamptz[])
ON CONFLICT (run_id, path) DO UPDATE SET instance = excluded.instance, state = excluded.state, until = excluded.until

-- name: end_turns
DELETE FROM turns USING unnest($1::text[], $2::text[]) AS k (run_id, path)
WHERE turns.run_id = k.run_id AND turns.path = k.path

-- name: sweep
DELETE FROM turns WHERE NOT EXISTS (
    SELECT FROM runs JOIN steps ON steps.run_id = runs.id AND steps.path = turns.path AND steps.state = 'waiting'
    WHERE runs.id = turns.run_id AND runs.state IN ('ready', 'running', 'waiting')
) AND (state = 'queued' OR until < $1)

-- name: waited_for
SELECT instance, limits, due, seen, given FROM paces
WHERE EXISTS (SELECT FROM turns AS t WHERE t.instance = paces.instance AND t.state = 'queued')
    AND NOT EXISTS (SELECT FROM control WHERE key = 'halt')

-- name: held
SELECT key, value FROM control WHERE key = ANY ($1::text[])

-- name: before
SELECT (SELECT count(*) FROM (
    SELECT FROM turns AS o WHERE o.instance = t.instance AND o.state = 'queued' AND (o.priority > t.priority OR (
        o.priority = t.priority AND (o.arrived, o.run_id, o.path) < (t.arrived, t.run_id, t.path))) LIMIT 1000
) AS line) AS number
FROM turns AS t WHERE run_id = $1 AND path = $2 AND state = 'queued'

-- name: traffic
SELECT instance, held.value AS held_until,
    (SELECT count(*) FROM turns WHERE turns.instance = every.instance AND state = 'taken' AND until > $1) AS under_way,
    (SELECT count(*) FROM turns WHERE turns.instance = every.instance AND state = 'queued') AS queued
FROM (SELECT instance FROM paces UNION SELECT substr(key, 6) FROM control WHERE key LIKE 'hold:%') AS every
LEFT JOIN control AS held ON held.key = 'hold:' || instance ORDER BY instance
