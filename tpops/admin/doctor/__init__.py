"""What "tpops doctor" does: looks at any POP3 server as mail programs see it."""
