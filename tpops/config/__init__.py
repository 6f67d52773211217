"""The configuration: its schema, its loader and the pages generated from it."""
