"""The POP3 protocol as pure code: no sockets, no clocks, no Twisted."""
