"""The status page in a web browser."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.integration import corpus
from tests.integration.browser import Browser
from tests.integration.server import USER, RunningServer, wait_until
from tests.integration.status_case import HOSTILE, TOKEN, StatusCase

#: Names, as JavaScript finds them in the table of sessions.
_NAMES = "return [...document.querySelectorAll('#sessions-table tbody tr')].map(row => row.cells[0].innerText)"

#: Whether the text of an element has enough contrast to what is behind it (WCAG 2.1, 1.4.3), for each with text.
_FAINT = """
const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
const rgb = (text) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const bright = (color) => color.slice(0, 3).map((part) => part / 255)
  .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = rgb(getComputedStyle(element).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
return [...document.querySelectorAll('body *')]
  .filter((element) => element.checkVisibility())
  .filter((element) => [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim()))
  .filter((element) => {
    const [one, other] = [bright(rgb(getComputedStyle(element).color)), bright(behind(element))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) < 4.5;
  }).map((element) => element.outerHTML.slice(0, 200));
"""


class PageTests(StatusCase):
    """What somebody sees who looks."""

    def browser(self, server: RunningServer) -> Browser:
        """One that is at the form."""
        browser = Browser(self)
        host, port = self.place(server)
        browser.open(f"http://{host}:{port}/")
        return browser

    def enter(self, server: RunningServer) -> Browser:
        """One that shows the page."""
        browser = self.browser(server)
        browser.write("#token", TOKEN)
        browser.click("main button")
        self.seen(browser, "#live", "Live")
        return browser

    def seen(self, browser: Browser, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        wait_until(lambda: browser.text(selector) == text, f"{selector}: {text}")

    def check_log(self, browser: Browser) -> None:
        """The browser has found nothing that the policy forbids, and no mistake; 401 is what the form comes with."""
        complaints = [
            line for line in browser.log() if "401 (Unauthorized)" not in line or "/data" in line.partition(" ")[0]
        ]
        self.assertEqual(complaints, [])

    def test_live(self) -> None:
        """Promise: the token opens the page; sessions appear and go, and failures are counted, without a reload."""
        server = self.server(2)
        server.deliver("1.host", corpus.ALL["lf"])
        browser = self.enter(server)
        self.assertEqual(browser.title(), "tpops on " + browser.text("h1").rpartition(" ")[2])
        (cookie,) = browser.cookies()
        self.assertEqual((cookie["httpOnly"], cookie["sameSite"]), (True, "Strict"))
        self.assertEqual(browser.run("return document.cookie"), "")
        browser.run("window.same = true")
        self.assertEqual(browser.text("#sessions-empty"), "Nobody is connected.")
        client = server.poplib()
        wait_until(lambda: browser.run(_NAMES) == [USER])
        self.assertEqual(browser.text("#sessions-table .badge"), "transaction")
        client.retr(1)
        self.seen(browser, "#sessions-table tbody td:nth-child(6)", "1")
        self.assertEqual(browser.text("#messages-more"), "1 since the start, 0 deleted")
        client.quit()
        wait_until(lambda: browser.run(_NAMES) == [])
        self.guess(server).command(b"QUIT")
        self.seen(browser, "#failures li strong", "1")
        self.assertEqual(browser.text("#failures li span"), "wrong password")
        self.assertEqual(browser.run("return document.querySelectorAll('#workers-table tbody tr').length"), 2)
        self.assertTrue(browser.run("return window.same"))
        self.check_log(browser)

    def test_names_are_text(self) -> None:
        """Promise: what a client calls himself is shown as he wrote it, and is never markup."""
        users = {USER: "x", "a&amp;<b>": "x"}
        server = self.server(users=users)
        wires = [self.guess(server), self.guess(server, "<svg/onload=document.title='broken'>" * 6)]
        wires += [server.session(name, "x") for name in users]
        browser = self.enter(server)
        wait_until(lambda: len(browser.run(_NAMES)) == len(wires))
        names = browser.run(_NAMES)
        self.assertIn(HOSTILE, names)
        self.assertIn("a&amp;<b>", names)
        self.assertIn("...", " ".join(names).replace("…", "..."))
        self.assertIn(HOSTILE.lower(), browser.text("#penalties-table"))
        self.assertEqual(browser.run("return document.querySelectorAll('main img, main b, td svg').length"), 0)
        self.assertTrue(browser.title().startswith("tpops on "))
        self.check_log(browser)

    def test_wrong_token(self) -> None:
        """Promise: refused with a word; the right one opens the page, and signing out closes it everywhere at once."""
        server = self.server()
        browser = self.browser(server)
        browser.write("#token", "something-else-altogether")
        browser.click("main button")
        self.seen(browser, ".message", "That is not the token.")
        self.assertEqual(browser.cookies(), [])
        self.assertNotIn(TOKEN, browser.run("return location.href"))
        browser.write("#token", TOKEN)
        browser.click("main button")
        self.seen(browser, "#live", "Live")
        self.assertTrue(browser.run("return location.href").endswith("/"))
        self.assertEqual(browser.run("return document.referrer"), "")
        browser.click("header button")
        self.seen(browser, "label[for=token]", "Token")
        self.assertEqual(browser.cookies(), [])
        self.check_log(browser)

    def test_policy_is_enforced(self) -> None:
        """Promise: the browser runs no script and loads nothing that somebody gets into the page; the log says so."""
        browser = self.enter(self.server())
        browser.run(
            "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)"
        )
        browser.run("const s = document.createElement('style'); s.append('p {}'); document.body.append(s)")
        wait_until(lambda: sum("Content Security Policy" in line for line in browser.log()) >= 2)
        refused = "try { document.body.innerHTML = '<p>'; return '' } catch (problem) { return problem.name }"
        self.assertEqual(browser.run(refused), "TypeError")

    def test_token_changes_and_server_goes(self) -> None:
        """Promise: a page that is open says when nobody answers any more, and asks for the token when it is another."""
        server = self.server()
        browser = self.enter(server)
        listen = server.configuration["status"]
        listen["listen"] = "{}:{}".format(*self.place(server))
        server.stop()
        wait_until(lambda: browser.text("#live").startswith("No answer since "))
        server.start()
        self.seen(browser, "#live", "Live")
        (server.directory / "token").write_text(TOKEN[::-1])
        server.restart()
        self.seen(browser, "label[for=token]", "Token")

    def test_looks(self) -> None:
        """Promise: light and dark as the reader likes it, readable, and nothing beyond the edge of a phone."""
        server = self.server()
        server.session("ann")
        self.guess(
            server, "somebody.with.quite.a.long.name.at.some.place@and.a.domain.that.is.long.as.well.example.org"
        )
        browser = self.enter(server)
        wait_until(lambda: len(browser.run(_NAMES)) == 2)
        grounds = set()
        for scheme in ("light", "dark"):
            browser.prefer(scheme)
            grounds.add(browser.run("return getComputedStyle(document.documentElement).backgroundColor"))
            self.assertEqual(browser.run(_FAINT), [], scheme)
        self.assertEqual(len(grounds), 2)
        browser.resize(360, 740)
        widest = (
            "return Math.max(...[...document.querySelectorAll('body *:not(.hidden, thead *, .skip)')]"
            ".map(one => one.getBoundingClientRect().right))"
        )
        self.assertLessEqual(browser.run(widest), 360)
        self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), 360)
        picture = Path(self.mktemp())
        browser.picture(picture)
        self.assertEqual(struct.unpack(">I", picture.read_bytes()[16:20])[0], 360)
        unnamed = "return [...document.querySelectorAll('table')].filter(one => !one.caption.innerText.trim()).length"
        self.assertEqual(browser.run(unnamed), 0)
