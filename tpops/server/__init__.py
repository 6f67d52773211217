"""Twisted I/O around tpops.protocol."""
