"""A home with the starters, sample alerts, and the bounded demonstration over the lab."""
