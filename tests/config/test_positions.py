"""Lines of keys in TOML text."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.config.positions import find, lines

TEXT = '''\
# comment with = and [brackets]
top = 1

[server]   # comment
"quoted key" = "a # no comment ["
'single' = 'x\\'
multi = """
a = 1
[no.table] \\""" still
"""
literal = \'\'\'
b = 2\'\'\'
list = [
  "]", # ]
  [1, 2],
]
inline = { x = 1, y = "}" }
a.b = 3
after = 1
[[listen]]
port = 1
[[listen]]
port = 2
[listen.sub]
deep = 1
[ spaced . "name" ]
last = 1'''


class LineTests(SynchronousTestCase):
    """Where a key stands."""

    def test_finds_every_key(self) -> None:
        """Strings, lists, comments and inline tables do not lead astray."""
        tomllib.loads(TEXT)
        found = lines(TEXT)
        expected = {
            ("top",): 2,
            ("server",): 4,
            ("server", "quoted key"): 5,
            ("server", "single"): 6,
            ("server", "multi"): 7,
            ("server", "literal"): 11,
            ("server", "list"): 13,
            ("server", "inline"): 17,
            ("server", "a"): 18,
            ("server", "a", "b"): 18,
            ("server", "after"): 19,
            ("listen",): 20,
            ("listen", 0): 20,
            ("listen", 0, "port"): 21,
            ("listen", 1): 22,
            ("listen", 1, "port"): 23,
            ("listen", 1, "sub"): 24,
            ("listen", 1, "sub", "deep"): 25,
            ("spaced", "name"): 26,
            ("spaced", "name", "last"): 27,
        }
        self.assertEqual(found, expected)

    def test_falls_back_to_what_is_around(self) -> None:
        """A key in an inline table has the line of the table; an unknown one has none."""
        found = lines(TEXT)
        self.assertEqual(find(found, ("server", "inline", "x")), 17)
        self.assertEqual(find(found, ("nowhere", "x")), 0)

    @given(st.lists(st.one_of(st.text(max_size=12), st.integers(), st.lists(st.text(max_size=5))), max_size=6))
    def test_values_never_move_the_lines_after_them(self, values: list[object]) -> None:
        """Any values: the next key is found where it stands."""
        escaped = [str(value) if isinstance(value, int) else _toml(value) for value in values]
        text = "".join(f"k{number} = {value}\n" for number, value in enumerate(escaped))
        tomllib.loads(text)
        self.assertEqual(lines(text), {(f"k{number}",): number + 1 for number in range(len(values))})


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return (
        '"'
        + "".join(f"\\U{ord(sign):08X}" if sign in '"\\' or not sign.isprintable() else sign for sign in str(value))
        + '"'
    )
