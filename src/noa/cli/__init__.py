"""The command line: a client of a running server, and the way to start one."""
