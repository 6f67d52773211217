"""Tests of tpops.mailbox."""
