"""L{tpops.plugins}, L{tpops.config.plugins} and tpops plugins, without anything installed and with odd plugins."""

from __future__ import annotations

from typing import Annotated, Any

import twisted.plugin
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.test_cli import CommandCase
from tests.config.test_load import LoadCase
from tpops import plugins
from tpops.config import plugins as models
from tpops.config.schema import Config
from tpops.config.section import Section, key
from tpops.errors import ConfigError, MaildropBroken
from tpops.mailbox.plugin_stores import PluginStores
from tpops.model import Account, Envelope


class Keys(Section):
    """Keys of a plugin."""

    colour: Annotated[str, key("Which one.")] = "red"


class Clashing(Section):
    """A key that all sinks have."""

    users: Annotated[str, key("Mine.")] = ""


class Factory:
    """What a plugin offers."""

    about = "An odd one."

    def __init__(self, name: str, settings: Any) -> None:
        self.name = name
        self.settings = settings


class SchemaTests(LoadCase):
    """Tables for plugins."""

    def install(self, **tables: list[Factory]) -> None:
        """As if these were installed."""
        self.patch(
            twisted.plugin,
            "getPlugins",
            lambda kind: {plugins.KINDS[one]: all_ for one, all_ in tables.items()}.get(kind, []),
        )

    def test_nothing_named(self) -> None:
        """Promise: without "plugin:" nobody looks for plugins."""
        self.patch(twisted.plugin, "getPlugins", None)
        self.assertIs(models.model_for({"sink": [{"driver": "drac"}], "accounts": 7, "store": [1]}), Config)

    def test_not_installed(self) -> None:
        """Promise: a plugin that is not there is told with its line."""
        self.install()
        (problem,) = self.problems('[[sink]]\ndriver = "plugin:none"\n')
        self.assertIn("2: sink[1].driver must be one of", problem)
        (problem,) = self.problems('[[store]]\ndriver = "plugin:none"\n')
        self.assertIn('2: store[1].driver must be "plugin:" and the name of an installed mailbox driver', problem)
        (problem,) = self.problems('[mail]\nlocation = "plugin:texts"\n')
        self.assertIn('must have the name of a [[store]] and a place behind "plugin:"', problem)
        error = self.assertRaises(ConfigError, plugins.factory, "sink", "plugin:none")
        self.assertIn("installed are none", str(error))

    def test_keys(self) -> None:
        """Promise: its own keys and those that all have; ours beside it work as before."""
        self.install(
            sink=[Factory("odd", Keys), Factory("odd", Clashing)], store=[Factory("a", Keys), Factory("b", Keys)]
        )
        loaded = self.load(
            '[[sink]]\ndriver = "plugin:odd"\ncolour = "blue"\nevents = ["remove"]\n[[sink]]\ndriver = "drac"\n'
            '[[store]]\ndriver = "plugin:b"\n'
        )
        odd, drac = loaded.config.sink
        self.assertEqual((odd.name, odd.settings(), odd.kinds), ("odd", {"colour": "blue"}, ("remove",)))
        self.assertEqual(drac.name, "drac")
        self.assertEqual(loaded.config.store[0].settings(), {"colour": "red"})
        self.assertEqual(loaded.origins["sink[1].colour"], f"{self.path}:3")
        (problem,) = self.problems('[[sink]]\ndriver = "plugin:odd"\ncolor = "blue"\n')
        self.assertIn("did you mean sink[1].colour?", problem)

    def test_plugins_that_cannot_be_used(self) -> None:
        """Promise: the package's mistakes are told as such."""
        for factory, said in (
            (Factory("odd", Clashing), "its key users is one that every [[sink]] has"),
            (Factory("odd", dict), "its settings must be a class derived from"),
            (Factory("o d", Keys), "must have a name of letters"),
        ):
            self.install(sink=[factory])
            error = self.assertRaises(ConfigError, self.load, '[[sink]]\ndriver = "plugin:odd"\n')
            self.assertIn(said, str(error))


class CommandTests(CommandCase):
    """tpops plugins."""

    def test_list(self) -> None:
        """Promise: what is installed with its keys, what is wrong with it, or that nothing is."""
        odd = [Factory("odd", Keys), Factory("bad", Clashing)]
        self.patch(twisted.plugin, "getPlugins", lambda kind: odd if kind is plugins.KINDS["sink"] else [])
        told = self.run_command("plugins").stdout
        self.assertRegex(told, r"\[\[sink\]\].*plugin:odd.*An odd one\..*colour \(text, \"red\"\)")
        self.assertIn("its key users is one that every", told)
        self.patch(twisted.plugin, "getPlugins", lambda kind: [])
        self.assertEqual(self.run_command("plugins").stdout, "no plugins are installed\n")


class StoreTests(SynchronousTestCase):
    """Maildrops in stores of other packages."""

    def test_dispatch(self) -> None:
        """Promise: by the name before the colon; start, stop and new mail where a store has them."""
        calls: list[Any] = []

        class Plain:
            async def open_at(self, account: Account, place: bytes) -> Any:
                calls.append(place)

        class Full(Plain):
            def start(self) -> None:
                calls.append("start")

            async def stop(self) -> None:
                calls.append("stop")

            async def append_at(self, account: Account, place: bytes, message: Any, envelope: Envelope) -> bytes:
                calls.append((place, message))
                return b"1"

        stores = PluginStores({"plain": Plain(), "full": Full()})
        joe, envelope = Account("joe", "word"), Envelope("", "joe", 0.0)
        stores.start()
        message: Any = "message"
        self.successResultOf(Deferred.fromCoroutine(stores.open_at(joe, b"plain:/a:b")))
        self.successResultOf(Deferred.fromCoroutine(stores.append_at(joe, b"full:/c", message, envelope)))
        for name, said in ((b"plain:/a", "takes no new mail"), (b"none:/a", "does not name it")):
            failing = Deferred.fromCoroutine(stores.append_at(joe, name, message, envelope))
            self.assertIn(said, str(self.failureResultOf(failing, MaildropBroken).value))
        self.successResultOf(Deferred.fromCoroutine(stores.stop()))
        self.assertEqual(calls, ["start", b"/a:b", (b"/c", "message"), "stop"])
