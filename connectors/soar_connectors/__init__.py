"""Connectors that ship with soar, each registered like a stranger's."""
