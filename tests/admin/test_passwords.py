"""tpops pw: stored passwords are made and tested."""

from __future__ import annotations

from click.testing import Result

from tests.admin.test_cli import CommandCase
from tpops.cred import hashes

STORED = "{PBKDF2}$1$BgBKedFYiS5Yc8mc$5000$433a91eaa91837bb1c33faa19d6eff66a1363967"


class MakeTests(CommandCase):
    """A password goes in, its stored form comes out."""

    def test_makes_argon2id_from_a_line_of_standard_input(self) -> None:
        """Standard output is the hash and nothing else; no configuration is needed."""
        made = self.tpops("pw", "--stdin", stdin="secret\r\nnot this\n")
        self.assertTrue(made.startswith("{ARGON2ID}$argon2id$"))
        self.assertEqual(made.count("\n"), 1)
        self.assertTrue(hashes.password_is(b"secret", made.strip()))

    def test_makes_the_scheme_that_is_wanted(self) -> None:
        """Names and other names in any case."""
        for asked, made in (("scram-sha-256", "{SCRAM-SHA-256}"), ("MD5", "{MD5-CRYPT}$1$"), ("plaintext", "{PLAIN}")):
            self.assertTrue(self.tpops("pw", "--stdin", "--scheme", asked, stdin="x").startswith(made))

    def test_encodes_the_data_as_wanted(self) -> None:
        """.b64 and .hex behind any scheme, as doveadm has it; what comes out is verified."""
        for name in hashes.schemes():
            for ending in ("b64", "HEX"):
                made = self.tpops("pw", "--stdin", "--scheme", f"{name}.{ending}", stdin="secret").strip()
                self.assertTrue(made.startswith(f"{{{name}.{ending.upper()}}}"), made)
                self.assertIs(hashes.password_is(b"secret", made), True, made)
        sha = "{SHA.HEX}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4\n"
        self.assertEqual(self.tpops("pw", "--stdin", "--scheme", "sha.hex", stdin="secret"), sha)

    def test_asks_twice_on_standard_error_and_hides_what_is_typed(self) -> None:
        """So that the hash alone goes into a file; two different ones are asked for again."""
        result = self.run_command("pw", "--scheme", "SHA", stdin="secret\nsecreT\nsecret\nsecret\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stdout, "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
        self.assertIn("The same again", result.stderr)
        self.assertNotIn("secre", result.stderr)

    def test_refuses_what_cannot_be_made(self) -> None:
        """An empty password and an unknown scheme, one line each."""
        self.assertIn("a password has 1 to 4096 octets", self.refused("pw", "--stdin", stdin="\n"))
        for unknown in ("ROT13", "SHA.rot13", "SHA.hex.hex"):
            self.assertIn("known are ARGON2ID,", self.refused("pw", "--stdin", "--scheme", unknown, stdin="x\n"))


class TestTests(CommandCase):
    """A stored password and a typed one."""

    def ask(self, stored: str, password: str) -> Result:
        result = self.run_command("pw", "--stdin", "--test", stored, stdin=f"{password}\n")
        self.assertNotIn("Traceback", result.output)
        return result

    def test_tells_right_from_wrong(self) -> None:
        """By a word, and by exit status 0 or 1."""
        for password, said, status in (("secret", "right\n", 0), ("Secret", "wrong\n", 1), ("", "wrong\n", 1)):
            result = self.ask(STORED, password)
            self.assertEqual((result.stdout, result.stderr, result.exit_code), (said, "", status))

    def test_knows_what_others_stored(self) -> None:
        """tpop3d's and MySQL's forms, with and without braces."""
        for stored in (
            "5ebe2294ecd0e0f08eab7690d2a6ee69",
            "Xr4ilOzQ4PCOq3aQ0qbuaQ==",
            "{md5}5ebe2294ecd0e0f08eab7690d2a6ee69",
            "{sha1}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "{crypt_md5}$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
            "{plaintext}secret",
            "{mysql}428567f408994404",
            "{MYSQL}*14E65567ABDB5135D0CFD9A70B3032C179A49EE7",
            "abNANd1rDfiNc",
        ):
            self.assertEqual(self.ask(stored, "secret").stdout, "right\n", stored)
            self.assertEqual(self.ask(stored, "Secret").stdout, "wrong\n", stored)

    def test_asks_once(self) -> None:
        """A password that is tested is typed once."""
        result = self.run_command("pw", "--test", STORED, stdin="secret\n")
        self.assertEqual((result.stdout, result.stderr.count(":"), result.exit_code), ("right\n", 1, 0))

    def test_tells_a_hash_that_cannot_be_used(self) -> None:
        """Unknown schemes and broken data are told on standard error, without the data, with status 1."""
        for stored, why in (("{ROT13}frperg", "unknown password scheme {ROT13}"), ("{SHA}frperg", "cannot be used")):
            result = self.ask(stored, "secret")
            self.assertEqual((result.stdout, result.exit_code), ("", 1))
            self.assertIn(why, result.stderr)
            self.assertNotIn("frperg", result.stderr)


class ListTests(CommandCase):
    """What there is to choose from."""

    def test_lists_every_scheme_with_its_other_names(self) -> None:
        """Each has a line, the best comes first."""
        rows = [cells[1:3] for cells in self.rows()]
        self.assertEqual([name.strip() for name, _ in rows], list(hashes.schemes()))
        self.assertIn(["MD5-CRYPT", "MD5, CRYPT_MD5"], [[cell.strip() for cell in row] for row in rows])

    def test_tells_what_a_scheme_is_good_for(self) -> None:
        """APOP and the challenges need more than a hash."""
        rows = {cells[1].strip(): cells[3].strip() for cells in self.rows()}
        self.assertEqual(rows["PLAIN"], "APOP, CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256")
        self.assertEqual((rows["SCRAM-SHA-1"], rows["CRAM-MD5"]), ("SCRAM-SHA-1", "CRAM-MD5"))
        self.assertEqual((rows["ARGON2ID"], rows["SHA"]), ("", ""))

    def rows(self) -> list[list[str]]:
        """The table, cell by cell."""
        return [line.split("│") for line in self.tpops("pw", "--list").splitlines() if line.startswith("│")]

    def test_one_thing_at_a_time(self) -> None:
        """--scheme, --test and --list exclude each other."""
        for arguments in (("--list", "--scheme", "SHA"), ("--list", "--test", "x"), ("--test", "x", "--scheme", "SHA")):
            result = self.run_command("pw", *arguments)
            self.assertEqual(result.exit_code, 2)
            self.assertIn("exclude each other", result.stderr)
