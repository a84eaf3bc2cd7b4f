-- Queries that change nothing. Those named `known_...` run inside an admission, after it has claimed the names.

-- name: known_names
-- What costs next to nothing where there is none: also the fields of waits, and the waits that have none.
SELECT 'xid' AS what, '' AS key, pg_current_xact_id()::text AS value
UNION ALL
SELECT 'coordinates', '', coordinates FROM records WHERE digest = ANY ($1::bytea[])
UNION ALL
SELECT 'suppression', key, value FROM control WHERE key >= $2 AND key < $3
UNION ALL
SELECT 'field', '', field FROM (
    -- One step into the index for each field: from one key to the first beyond all keys of the same field.
    WITH RECURSIVE found AS (
        SELECT min(awaited_key(record) COLLATE "C") AS key FROM steps
        WHERE awaits_alert AND awaited_key(record) COLLATE "C" >= '0'
        UNION ALL
        SELECT (
            SELECT min(awaited_key(record) COLLATE "C") FROM steps
            WHERE awaits_alert AND awaited_key(record) COLLATE "C" >= split_part(found.key, ':', 1) || ';'
        ) FROM found WHERE found.key IS NOT NULL
    )
    SELECT split_part(key, ':', 1) AS field FROM found WHERE key IS NOT NULL
) AS fields
UNION ALL
SELECT 'wait', '', record FROM steps JOIN runs ON runs.id = run_id
WHERE awaits_alert AND awaited_key(record) COLLATE "C" = ''
    AND runs.state IN ('ready', 'running', 'waiting') AND NOT cancel_requested

-- name: known_alerts
SELECT n.source, n.uid, n.content, first.id AS first_id, same.id AS same_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS n (source, uid, content)
CROSS JOIN LATERAL (
    SELECT id FROM alerts
    WHERE hashtextextended(uid, 0) = hashtextextended(n.uid, 0) AND received_at >= $4
        AND uid = n.uid AND source = n.source
    ORDER BY received_at, id LIMIT 1
) AS first
LEFT JOIN LATERAL (
    SELECT id FROM alerts
    WHERE hashtextextended(uid, 0) = hashtextextended(n.uid, 0) AND received_at >= $4
        AND uid = n.uid AND source = n.source AND content = n.content
    ORDER BY received_at, id LIMIT 1
) AS same ON TRUE

-- name: known_windows
SELECT key, started_at, until, count, run_id FROM windows WHERE key = ANY ($1::text[]) AND until > $2

-- name: awaiting
WITH waits AS MATERIALIZED (
    SELECT run_id, record FROM steps WHERE awaits_alert AND awaited_key(record) COLLATE "C" = ANY ($1::text[])
)
SELECT record FROM waits JOIN runs ON runs.id = run_id
WHERE runs.state IN ('ready', 'running', 'waiting') AND NOT cancel_requested

-- name: clock
SELECT clock_timestamp() AS now

-- name: due
SELECT * FROM runs WHERE state = 'waiting' AND wake_at <= $1 ORDER BY wake_at LIMIT $2

-- name: expired_leases
SELECT * FROM runs WHERE state = 'running' AND (lease_until < $1 OR lease_until > $3) ORDER BY lease_until LIMIT $2

-- name: due_approvals
(SELECT approval FROM approvals WHERE state = 'pending' AND decide_by <= $1 ORDER BY decide_by LIMIT $2)
UNION ALL
(SELECT approval FROM approvals WHERE state = 'granted' AND execute_by <= $1 ORDER BY execute_by LIMIT $2)
LIMIT $2

-- name: run
SELECT * FROM runs WHERE id = $1

-- name: steps
SELECT path, record FROM steps WHERE run_id = $1 ORDER BY path

-- name: attempts
SELECT attempt FROM attempts WHERE run_id = $1 ORDER BY path, number

-- name: approval
SELECT approval FROM approvals WHERE id = $1

-- name: alert_documents
SELECT alerts.id, body FROM alerts JOIN payloads USING (entry_id) WHERE alerts.id = ANY ($1::text[])

-- name: namesakes
SELECT other.id, other.outcome, other.received_at, other.content = mine.content AS repeats FROM alerts AS mine
JOIN alerts AS other ON hashtextextended(other.uid, 0) = hashtextextended(mine.uid, 0)
    AND other.uid = mine.uid AND other.source = mine.source AND other.id < mine.id
WHERE mine.id = $1 ORDER BY repeats DESC, other.id DESC LIMIT $2

-- name: joined
SELECT id FROM alerts WHERE id BETWEEN $2 AND $3 AND position($1 IN matches) > 0 AND EXISTS (
    SELECT FROM json_array_elements(matches::json) AS match WHERE match ->> 1 = 'correlated' AND match ->> 2 = $1)
ORDER BY id LIMIT $4

-- name: alert_row
SELECT * FROM alerts WHERE id = $1

-- name: dead_letters
SELECT * FROM dead_letters WHERE id < coalesce($1, '~') ORDER BY id DESC LIMIT $2

-- name: playbook_text
SELECT file, text FROM playbooks WHERE digest = $1

-- name: naming_key
SELECT key FROM naming

-- name: control
SELECT value FROM control WHERE key = $1

-- name: suppressions
SELECT value FROM control WHERE key >= $1 AND key < $2 ORDER BY key

-- name: action_counts
SELECT k.key, (
    SELECT count(*) FROM (
        SELECT DISTINCT run_id, path FROM acted
        WHERE hashtextextended(acted.key, 0) = hashtextextended(k.key, 0) AND at >= $2 AND acted.key = k.key
            AND NOT (run_id = $3 AND path = $4)
    ) AS actions
) AS actions
FROM unnest($1::text[]) AS k (key)

-- name: targets_acted_on
SELECT count(DISTINCT key) FROM acted WHERE at >= $2 AND starts_with(key, $1) AND NOT key = ANY ($3::text[])

-- name: counts
SELECT 'alerts' AS what, outcome AS word, count(*) AS number FROM alerts GROUP BY outcome
UNION ALL SELECT 'alerts', 'dead_letter', count(*) FROM dead_letters HAVING count(*) > 0
UNION ALL SELECT 'runs', state, count(*) FROM runs GROUP BY state
UNION ALL SELECT 'actions', effect || '/' || state, count(*) FROM attempts GROUP BY effect, state
UNION ALL SELECT 'approvals', state, count(*) FROM approvals GROUP BY state
UNION ALL SELECT 'entries', '', size FROM tree

-- name: tree
SELECT size, frontier FROM tree

-- name: entries
SELECT idx, id, type, at, run_id, leaf, leaf_hash, salt, body
FROM entries LEFT JOIN payloads ON entry_id = id
WHERE idx >= $1 ORDER BY idx LIMIT $2

-- name: entries_of_run
SELECT idx, id, type, at, run_id, leaf, leaf_hash, salt, body
FROM entries LEFT JOIN payloads ON entry_id = id
WHERE idx >= $1 AND run_id = $3 ORDER BY run_seq LIMIT $2

-- name: checkpoints
SELECT coalesce(cosigned.text, checkpoints.text) AS text
FROM checkpoints LEFT JOIN cosigned USING (size) ORDER BY size DESC LIMIT $1

-- name: cosigned
SELECT text FROM cosigned ORDER BY size DESC LIMIT 1

-- name: leaf_hashes
SELECT leaf_hash AS hash FROM entries WHERE idx >= $1 ORDER BY idx LIMIT $2

-- name: subtree_hashes
SELECT hash FROM subtrees WHERE level = $3 AND idx >= $1 ORDER BY idx LIMIT $2

-- name: xact_status
SELECT pg_xact_status($1::text::xid8)

-- name: entry_exists
SELECT EXISTS (SELECT FROM entries WHERE id = $1)
