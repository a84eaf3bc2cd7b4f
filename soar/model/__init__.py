"""The vocabulary: frozen types and transition tables; no input or output."""
