"""Tests of tpops.server with Twisted in memory."""
