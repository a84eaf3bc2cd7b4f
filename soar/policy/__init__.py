"""The policy gate and the engines behind it."""
