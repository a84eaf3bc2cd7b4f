"""The connector kit: declaration, client, capabilities, registry."""
