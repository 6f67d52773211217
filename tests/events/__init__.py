"""Tests of the event bus and its sinks."""
