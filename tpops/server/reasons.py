"""
Why the server has ended a session, in the words of the logs; and which limits these are.

Purpose: each of these limits can be found in the configuration by the key that the log names.
"""

from __future__ import annotations

LOGIN_TIMEOUT = "login timeout"
IDLE = "idle"
SESSION_LIMIT = "session limit"
WRITE_STALLED = "write stalled"
LINE_TOO_LONG = "line too long"
BAD_COMMANDS = "too many errors"
ERRORS_BEFORE_LOGIN = "too many errors before the login"
ERRORS_AFTER_LOGIN = "too many errors after the login"
COMMANDS_BEFORE_LOGIN = "too many commands before the login"
COMMANDS_AFTER_LOGIN = "too many commands after the login"
AUTH_FAILED = "authentication failed"
NO_LOGIN = "made room for a newer client"

#: The configuration's keys of those that are limits.
LIMITS = {
    LOGIN_TIMEOUT: "login_timeout_seconds",
    IDLE: "idle_timeout_seconds",
    SESSION_LIMIT: "session_max_seconds",
    WRITE_STALLED: "write_timeout_seconds",
    LINE_TOO_LONG: "disconnect_octets",
    BAD_COMMANDS: "bad_commands",
    ERRORS_BEFORE_LOGIN: "errors_before_login",
    ERRORS_AFTER_LOGIN: "errors_after_login",
    COMMANDS_BEFORE_LOGIN: "commands_before_login",
    COMMANDS_AFTER_LOGIN: "commands_after_login",
    AUTH_FAILED: "auth_tries",
    NO_LOGIN: "unauthenticated_connections",
    "plaintext refused": "apop_only",
}
