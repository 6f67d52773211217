"""Databases: schemas and their migrations."""
