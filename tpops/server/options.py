"""What an operator can set of the POP3 server itself."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ServerOptions:
    """
    Limits and timers of one connection; 0 seconds means no limit.

    @ivar auth_tries: failed logins until the connection is closed
    @ivar login_timeout_seconds: from the connection to the login
    @ivar idle_timeout_seconds: between commands (RFC 1939 section 3: at least 600)
    @ivar session_max_seconds: the whole connection
    @ivar write_timeout_seconds: for a client that does not read
    @ivar command_octets: longest command line with its line end; a longer one is refused
    @ivar disconnect_octets: a line longer than this ends the connection
    @ivar bad_commands: refused commands in a row that end the connection
    @ivar commands_before_login: commands until the login; one more ends the connection, 0 for any number
    @ivar commands_after_login: the same afterwards
    @ivar errors_before_login: refused commands until the login that end the connection, 0 for any number
    @ivar errors_after_login: the same afterwards
    @ivar master_separator: parts "user*master" in the name of a client that can give only one; b"" parts nothing
    @ivar refuse_utf8_headers: without UTF8 mode, refuse messages with UTF-8 header fields (RFC 6856 section 5)
    """

    auth_tries: int = 3
    login_timeout_seconds: float = 180.0
    idle_timeout_seconds: float = 600.0
    session_max_seconds: float = 0.0
    write_timeout_seconds: float = 300.0
    command_octets: int = 255
    disconnect_octets: int = 1024
    bad_commands: int = 20
    commands_before_login: int = 0
    commands_after_login: int = 0
    errors_before_login: int = 0
    errors_after_login: int = 0
    master_separator: bytes = b""
    refuse_utf8_headers: bool = False
