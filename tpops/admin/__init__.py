"""The command line 'tpops'."""
