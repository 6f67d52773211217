"""The keys of [sessions]: what cannot be had together is said before anything starts."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.config.load import load
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.process.broker_link import SESSION_TABLES

OWNER = '[server]\nuser = "nobody"\n[sessions]\nrun_as = "owner"\n'


class SessionsTests(SynchronousTestCase):
    """What is refused, and in which words."""

    def problems(self, text: str) -> str:
        """What is wrong with a file, "" for nothing."""
        path = Path(self.mktemp())
        path.write_text(text)
        path.chmod(0o600)
        try:
            load(str(path))
        except ConfigError as problem:
            return str(problem)
        return ""

    def test_what_goes_together(self) -> None:
        """Promise: owners of Maildirs and spools, with programs or without."""
        for more in (
            "",
            'program = ["/bin/popit", "popit", "$(user)", "$(maildir)"]\nuseropt = "/([^%@+]*)"\n',
            'groups = ["mail"]\n[mail]\nlocation = "maildir:~/Maildir mbox:/var/mail/$(user)"\n',
        ):
            self.assertEqual(self.problems(OWNER + more), "", more)

    def test_what_does_not(self) -> None:
        """Promise: each refusal names the key, and what is needed."""
        owner = 'has run_as = "owner", which '
        for text, expected in (
            ('[sessions]\nrun_as = "owner"\n', owner + "needs server.user"),
            ('[server]\nuser = "root"\n[sessions]\nrun_as = "owner"\n', owner + "needs server.user"),
            (OWNER + '[mail]\nlocation = "mysql:"\n', owner + "serves maildir: and mbox:, not mysql:"),
            (OWNER + '[lmtp]\nlisten = ["unix:/x/lmtp"]\n', owner + "cannot be used together with lmtp.listen"),
            (
                OWNER + '[tls]\nclient_certificates = "ask"\nclient_ca = "/x"\ncertificate = "/x"\n',
                owner + "cannot be used together with tls.client_certificates",
            ),
            (
                OWNER + "[limits]\noctets_per_second = 9999\n",
                owner + "cannot be used together with limits.octets_per_second (octets_per_second_per_session can)",
            ),
            (
                OWNER + 'program = ["/x"]\n[limits]\noctets_per_second_per_session = 9999\n',
                owner + "cannot be used together with sessions.program and limits.octets_per_second_per_session",
            ),
            (OWNER + 'confine = "landlock"\nprogram = ["/x"]\n', "a program, whose needs are not known"),
            ('[sessions]\nprogram = ["/bin/x"]\n', 'has program, which means nothing without run_as = "owner"'),
            ('[sessions]\ngroups = ["mail"]\n', 'has groups, which means nothing without run_as = "owner"'),
            (OWNER + 'useropt = "/(.*)"\n', "has useropt, which means nothing without program"),
            (OWNER + 'useropt = "x"\nprogram = ["/x"]\n', "must have one pair of parentheses"),
            (OWNER + 'program = ["popit"]\n', "must be a list that begins with the absolute path"),
            (OWNER + 'program = ["/x", "$(nobody)"]\n', "has the unknown variable $(nobody); known are $(user)"),
            (OWNER + 'program = ["/x", "a$"]\n', 'has a "$" that starts no variable'),
            (OWNER + "minimum_uid = 0\n", "minimum_uid must be at least 1"),
        ):
            self.assertIn(expected, self.problems(text), text)

    def test_sessions_get_no_secrets(self) -> None:
        """Promise: the tables that the broker gets are complete, and none of them has a secret."""
        config = Config.model_validate({"server": {"user": "nobody"}, "sessions": {"run_as": "owner"}})
        self.assertEqual(Config.model_validate_json(config.model_dump_json(include=SESSION_TABLES)).mail, config.mail)
        for name in SESSION_TABLES:
            for key, field in type(getattr(config, name)).model_fields.items():
                extra = field.json_schema_extra
                self.assertFalse(isinstance(extra, dict) and extra.get("secret"), f"{name}.{key}")
