"""Tests of tpops.sight."""
