"""Playbooks on disk: load, lint, trigger index, graph."""
