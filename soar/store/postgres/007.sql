-- Schema 7.

SELECT 1;
