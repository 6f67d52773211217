"""POP3 as a client speaks it: to the servers behind this one."""
