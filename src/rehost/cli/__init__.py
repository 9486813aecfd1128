"""What a person types, and how events are shown."""
