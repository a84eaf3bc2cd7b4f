"""The witness: cosigns what a journal publishes, and remembers it where the journal's owner cannot reach."""
