"""driver = "strcred": checkers of twisted.cred, Twisted's own and one of a plugin package, on a real server."""

from __future__ import annotations

import os
import poplib

from tests.integration.judges import LATER, WRONG, JudgesCase
from tests.integration.server import CHECKOUT, PATIENCE_SECONDS

_PLUGIN = """
from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.defer import fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

@implementer(ICredentialsChecker)
class Checker:
    credentialInterfaces = (IUsernamePassword,)
    def __init__(self, word):
        self.word = word
    def requestAvatarId(self, credentials):
        name = credentials.username
        if name == b"broken":
            raise RuntimeError("the database says " + credentials.password.decode())
        if name == b"anybody":
            return succeed(ANONYMOUS)
        if name == b"climber":
            return succeed("../joe")
        if credentials.checkPassword(self.word):
            return succeed(name + b"@example.org")
        return fail(UnauthorizedLogin("no"))

@implementer(ICheckerFactory, IPlugin)
class Factory:
    authType = "word"
    authHelp = "one word for all"
    argStringFormat = "the word"
    credentialInterfaces = (IUsernamePassword,)
    def generateChecker(self, argument):
        if not argument:
            raise ValueError("it needs a word")
        return Checker(argument.encode())

@implementer(ICheckerFactory, IPlugin)
class Keys(Factory):
    authType = "keys"
    def generateChecker(self, argument):
        made = Checker(b"")
        made.credentialInterfaces = ()
        return made

theFactory, theKeys = Factory(), Keys()
"""


class StrcredTests(JudgesCase):
    """Descriptions of checkers."""

    def test_file(self) -> None:
        """Promise: "file:" verifies passwords and, as its passwords are stored as they are, APOP and CRAM-MD5."""
        self.mail("joe")
        (self.directory / "passwords").write_text("joe:secret\n")
        server = self.server({"driver": "strcred", "checker": f"file:{self.directory}/passwords"}).start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        for name, password in (("joe", "wrong"), ("ann", "secret")):
            self.assertTrue(self.answer(server, name, password).startswith(WRONG), name)
        client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        self.assertIn("CRAM-MD5", client.capa()["SASL"])
        self.assertRaises(poplib.error_proto, client.apop, "joe", "wrong")
        self.assertIn(b"has 1 message", client.apop("joe", "secret"))
        client.quit()
        (self.directory / "passwords").write_text("joe:another\n")
        self.assertTrue(self.answer(server, "joe").startswith(WRONG))
        self.assertIn(b"has 1 message", self.answer(server, "joe", "another"))
        (self.directory / "passwords").unlink()
        self.assertFalse(self.answer(server, "joe", "another").startswith(b"+OK"))

    def test_memory(self) -> None:
        """Promise: "memory:" has the accounts of its description, which is not shown."""
        self.mail("joe")
        server = self.server({"driver": "strcred", "checker": "memory:ann:other:joe:secret"}).start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        self.assertTrue(self.answer(server, "ann").startswith(WRONG))
        self.assertNotIn("secret", server.output())

    def test_plugin(self) -> None:
        """Promise: a checker that somebody else wrote; its name counts; its failures are not a wrong password."""
        self.mail("joe@example.org", messages=2)
        environment = self.plugin()
        source = {"driver": "strcred", "checker": "word:secret", "name": "theirs"}
        server = self.server(source).start(env=environment)
        self.assertIn(b"+OK joe@example.org has 2 messages", self.answer(server, "joe"))
        for name in ("joe", "anybody"):
            self.assertTrue(self.answer(server, name, "wrong").startswith(WRONG), name)
        for name, reason in (("broken", "the checker failed: RuntimeError"), ("climber", "dangerous in a path")):
            self.assertTrue(self.answer(server, name, "hidden").startswith(LATER), name)
            self.assertIn(reason, self.detail(server, name))
        client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        self.assertNotIn(b"<", client.getwelcome())
        self.assertEqual(client.capa()["SASL"], ["PLAIN", "LOGIN"])
        self.assertIn("theirs: the checker failed", server.output())

    def plugin(self) -> dict[str, str]:
        """An environment in which the plugin is found."""
        plugins = self.directory / "their" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "their_checker.py").write_text(_PLUGIN)
        return {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{self.directory}/their"}

    def test_wrong_descriptions(self) -> None:
        """Promise: the server does not start, and says which checkers there are."""
        environment = self.plugin()
        for description, reason in (
            ("nothing:x", "accounts source strcred: there is no checker 'nothing'; known are anonymous, "),
            ("word", "it needs a word"),
            ("memory:odd", "the checker 'memory' cannot be made"),
            ("keys:x", "verifies neither passwords nor digests"),
            ("anonymous", "verifies neither passwords nor digests"),
        ):
            server = self.server({"driver": "strcred", "checker": description})
            text = server.refuses_to_start(env=environment)
            self.assertIn(reason, text)
            self.assertNotIn("Traceback", text)
        self.assertIn(
            "accounts[1].checker must not be empty", self.check(self.server({"driver": "strcred", "checker": ""}))[1]
        )
        status, text = self.check(self.server({"driver": "strcred", "checker": "nothing:x"}))
        self.assertEqual(status, 1)
        self.assertIn("there is no checker 'nothing'", text)
        self.assertNotIn("Traceback", text)
