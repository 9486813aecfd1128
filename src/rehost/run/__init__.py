"""Plan, engine, events and journal: what every command is made of. Knows nothing of clouds or Docker."""
