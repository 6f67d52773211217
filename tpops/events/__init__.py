"""The event bus and its sinks."""
