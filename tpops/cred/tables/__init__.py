"""Readers of lookup tables as Postfix makes them, one module for each format."""
