"""soar: an event-driven security response orchestrator."""

__version__ = "0.1.0"
