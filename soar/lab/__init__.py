"""The lab: a small range on loopback with real HTTP effects and no credentials."""
