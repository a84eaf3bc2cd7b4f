-- Statements that change something. Rows come as one array per column, so that any number of them is one statement.

-- name: lock_runs
-- Always in the order of ids, and before anything else of a run is touched: no two batches can wait for each other.
SELECT id, state, epoch, owner, lease_until, wake_at, signalled, locked, cancel_requested,
    NULL AS outputs, error, finished_at, paused
FROM runs WHERE id = ANY ($1::text[]) ORDER BY id FOR UPDATE

-- name: lock_approvals
SELECT id, state, votes FROM approvals WHERE id = ANY ($1::text[]) ORDER BY id FOR UPDATE

-- name: lock_counts
-- After runs, approvals and paces, before the tree, and in the order given.
SELECT pg_advisory_xact_lock(1936683379, lock) FROM unnest($1::integer[]) AS l (lock)

-- name: recount
SELECT asked.place, (
    SELECT count(*) FROM (
        SELECT DISTINCT run_id, path FROM acted
        WHERE hashtextextended(acted.key, 0) = hashtextextended(asked.key, 0) AND at >= asked.since
            AND acted.key = asked.key AND NOT (run_id = asked.run_id AND path = asked.path)
    ) AS actions
) AS actions
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) WITH ORDINALITY
    AS asked (key, since, run_id, path, place)

-- name: look
-- What else a batch must know, read once its runs are locked: everything here belongs to a run, or is `control`.
SELECT 'xid' AS what, pg_current_xact_id()::text AS a, '' AS b, 0::bigint AS n, '' AS state
UNION ALL
SELECT 'steps', s.run_id, s.path, 0, s.state
FROM unnest($1::text[], $2::text[]) AS k (run_id, path) JOIN steps AS s USING (run_id, path)
UNION ALL
SELECT 'attempts', a.run_id, a.path, a.number, a.state
FROM unnest($3::text[], $4::text[], $5::bigint[]) AS k (run_id, path, number)
JOIN attempts AS a USING (run_id, path, number)
UNION ALL
SELECT 'control', key, '', 0, value FROM control WHERE key = ANY ($6::text[])
UNION ALL
SELECT 'chains', k.run_id, encode(last.leaf_hash, 'hex'), last.run_seq + 1, ''
FROM unnest($7::text[]) AS k (run_id)
CROSS JOIN LATERAL (
    SELECT run_seq, leaf_hash FROM entries WHERE entries.run_id = k.run_id ORDER BY run_seq DESC LIMIT 1
) AS last

-- name: claim
INSERT INTO claims SELECT DISTINCT key FROM unnest($1::bigint[]) AS c (key) ORDER BY key

-- name: unclaim
DELETE FROM claims WHERE key = ANY ($1::bigint[])

-- name: new_runs
INSERT INTO runs (id, state, epoch, owner, lease_until, wake_at, signalled, locked, cancel_requested, outputs, error,
    finished_at, paused, kind, playbook_id, playbook_digest, alert_id, parent_run_id, parent_path, vars, priority,
    lock_key, depth, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[],
    $7::boolean[], $8::boolean[], $9::boolean[], $10::text[], $11::text[], $12::timestamptz[], $13::boolean[],
    $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::integer[],
    $22::text[], $23::integer[], $24::timestamptz[])

-- name: runs
UPDATE runs SET state = w.state, owner = w.owner, lease_until = w.lease_until, wake_at = w.wake_at,
    signalled = w.signalled, locked = w.locked, cancel_requested = w.cancel_requested,
    outputs = coalesce(w.outputs, runs.outputs), error = w.error, finished_at = w.finished_at,
    paused = w.paused
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::boolean[],
    $8::boolean[], $9::boolean[], $10::text[], $11::text[], $12::timestamptz[], $13::boolean[])
    AS w (id, state, epoch, owner, lease_until, wake_at, signalled, locked, cancel_requested, outputs, error,
        finished_at, paused)
WHERE runs.id = w.id AND runs.epoch = w.epoch
RETURNING 1

-- name: steps
INSERT INTO steps SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
ON CONFLICT (run_id, path) DO UPDATE
SET state = excluded.state, record = excluded.record, awaits_alert = excluded.awaits_alert

-- name: forget_steps
DELETE FROM steps USING unnest($1::text[], $2::text[]) AS k (run_id, path)
WHERE steps.run_id = k.run_id AND steps.path = k.path

-- name: attempts
INSERT INTO attempts SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[])
ON CONFLICT (run_id, path, number) DO UPDATE SET state = excluded.state, attempt = excluded.attempt

-- name: acted
INSERT INTO acted SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])

-- name: new_approvals
INSERT INTO approvals SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
    $6::timestamptz[], $7::timestamptz[], $8::text[])

-- name: approvals
UPDATE approvals SET state = w.state, votes = w.votes, execute_by = w.execute_by, approval = w.approval
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
    $8::text[]) AS w (id, run_id, path, state, votes, decide_by, execute_by, approval)
WHERE approvals.id = w.id

-- name: windows
INSERT INTO windows SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::text[])
ON CONFLICT (key) DO UPDATE SET started_at = excluded.started_at, until = excluded.until, count = excluded.count,
    run_id = excluded.run_id

-- name: control
INSERT INTO control SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: clear_control
DELETE FROM control WHERE key = ANY ($1::text[])

-- name: playbooks
INSERT INTO playbooks SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS p (digest) ORDER BY digest
ON CONFLICT (digest) DO NOTHING

-- name: records
INSERT INTO records SELECT * FROM unnest($1::bytea[], $2::text[], $3::timestamptz[]) AS r (digest) ORDER BY digest

-- name: alerts
INSERT INTO alerts SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::text[])

-- name: dead_letters
INSERT INTO dead_letters (id, coordinates, code, reason, at, record)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])

-- name: payloads
INSERT INTO payloads SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])

-- name: lock_tree
SELECT size, frontier FROM tree FOR UPDATE

-- name: grow
-- Only from the very tree that the caller knows; whoever comes second finds another one and grows nothing.
UPDATE tree SET size = $1, frontier = $2 WHERE size = $3 AND frontier = $4 RETURNING 1

-- name: append_grown
INSERT INTO entries SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::text[],
    $6::bigint[], $7::bytea[], $8::bytea[]) WHERE EXISTS (SELECT FROM grow_)

-- name: lease
-- A lock is held from a run's first lease until it ends, and goes to the oldest that asks for it and is not paused. A
-- run that is retried after its end asks anew: another may hold the lock by then, an older or a younger one.
WITH chosen AS (
    SELECT id FROM runs
    WHERE state = 'ready' AND NOT paused AND (lock_key IS NULL OR locked OR NOT EXISTS (
        SELECT FROM runs AS other WHERE other.lock_key = runs.lock_key
        AND other.state IN ('ready', 'running', 'waiting', 'needs_review')
        AND (other.locked OR (other.id < runs.id AND other.state = 'ready' AND NOT other.paused))))
    ORDER BY priority DESC, id LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE runs SET state = 'running', epoch = epoch + 1, owner = $1, lease_until = $2, signalled = FALSE, wake_at = NULL,
    locked = lock_key IS NOT NULL
FROM chosen WHERE runs.id = chosen.id
RETURNING runs.*

-- name: renew
WITH mine AS (
    SELECT r.id FROM runs AS r JOIN unnest($3::text[], $4::bigint[]) AS k (id, epoch) USING (id, epoch)
    WHERE owner = $1 AND state = 'running' ORDER BY r.id FOR UPDATE OF r
)
UPDATE runs SET lease_until = $2 FROM mine WHERE runs.id = mine.id
RETURNING runs.id, runs.epoch

-- name: add_checkpoint
INSERT INTO checkpoints VALUES ($1, $2) ON CONFLICT (size) DO NOTHING

-- name: add_cosigned
INSERT INTO cosigned VALUES ($1, $2) ON CONFLICT (size) DO UPDATE SET text = excluded.text

-- name: add_hashes
INSERT INTO subtrees SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[]) ON CONFLICT DO NOTHING

-- name: end_stalled
-- A session of soar in a transaction whose client has been silent for so long in the middle of it.
SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'soar'
    AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
    AND state_change < clock_timestamp() - make_interval(secs => $1)

-- name: end_session
SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
WHERE pid = $1 AND datname = current_database() AND usename = current_user AND application_name = 'soar'
