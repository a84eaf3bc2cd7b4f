-- What the service may do, for a role of its own that does not own the tables. Run as their owner, after each
-- migration:  psql -v role=soar_service -v schema=public -f grants.sql
--
-- The journal can be added to and read, not changed: a defence in depth. The proof is the tree and its checkpoints.

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"role";
GRANT INSERT ON ALL TABLES IN SCHEMA :"schema" TO :"role";
REVOKE INSERT ON :"schema".schema_versions, :"schema".tree, :"schema".naming FROM :"role";
GRANT UPDATE ON :"schema".runs, :"schema".steps, :"schema".attempts, :"schema".approvals, :"schema".windows,
    :"schema".control, :"schema".tree, :"schema".cosigned, :"schema".paces, :"schema".turns, :"schema".dead_letters,
    :"schema".outboxes TO :"role";
GRANT DELETE ON :"schema".steps, :"schema".control, :"schema".claims, :"schema".turns TO :"role";
