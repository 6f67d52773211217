"""Processes: rights and what runs under which."""
