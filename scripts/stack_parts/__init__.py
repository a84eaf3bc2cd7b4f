"""The parts that scripts/stack starts: one module each, and what they share."""
