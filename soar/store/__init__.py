"""The Store port and its implementations."""
