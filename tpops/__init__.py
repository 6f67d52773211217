"""tpops, a POP3 mail access service."""
