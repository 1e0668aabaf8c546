#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 240
"""dz trial: what it measures, what it advises, and that it leaves nothing behind."""
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import libblob

MOUNT = "/mnt/dz-test"
FILES, SIZE = 40, 3000
READ_ALL = f"cat {MOUNT}/f* >/dev/null"


class Place:
    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="trial.")
        self.shm, self.cache = os.path.join(self.top, "shm"), os.path.join(self.top, "cache")

    def left(self):
        """What lies in the directories of the cache."""
        return [os.path.join(d, n) for d in (self.shm, self.cache) if os.path.isdir(d)
                for n in os.listdir(d)]


def command(server, place, *args):
    return [libblob.dz(), "trial", "-m", f"{MOUNT}={server.url}/data", "--shm-dir", place.shm,
            "--cache-dir", place.cache, "--dram-size", "48M", "--disk-size", "64M", *args]


def environment():
    env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY)
    for name in ("LD_PRELOAD", "DELTAZERO_SHM_DIR", "DELTAZERO_CACHE_DIR"):
        env.pop(name, None)
    return env


def trial(server, *args, want=0):
    place = Place()
    try:
        done = subprocess.run(command(server, place, *args), env=environment(), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        assert done.returncode == want, done
        assert place.left() == [], place.left()
        return done
    finally:
        shutil.rmtree(place.top, ignore_errors=True)


def figures(server, *args, want=0):
    answer = json.loads(trial(server, "--json", *args, want=want).stdout)
    return answer, {r["mode"]: r for r in answer["runs"]}


@libblob.test
def a_job_that_waits_for_blob_is_advised_to_use_the_cache(server):
    answer, run = figures(server, "--", "sh", "-c", READ_ALL)
    assert list(run) == ["no cache", "cold", "warm"], run
    for mode in run.values():
        assert mode["status"] == 0 and sum(mode["stat"]["hit_bytes"].values()) == FILES * SIZE, mode
    # The server answers after 60 ms, so somebody has to wait, however much is asked for ahead.
    assert run["no cache"]["wait_seconds"] > 0.2 and run["cold"]["wait_seconds"] > 0.2, run
    assert run["no cache"]["seconds"] - run["warm"]["seconds"] > 0.2, run
    assert run["warm"]["stat"]["origin"]["requests"] == 0, run
    assert run["cold"]["stat"]["origin"]["requests"] >= FILES, run
    assert abs(run["cold"]["price_usd"] - run["cold"]["stat"]["origin"]["requests"] * 0.5e-6) < 1e-9
    assert answer["advice"].startswith("Use the cache"), answer["advice"]
    assert "first run" in answer["advice"] and "32 MiB" in answer["note"], answer
    # cat did the waiting, and the files that it waited for were seen.
    waited = run["no cache"]["processes"][0]
    assert waited["command"] == "cat" and waited["wait_seconds"] > 0.2, waited
    names = {f["name"] for f in run["no cache"]["files"]}
    assert len(names) > 2 and all(re.fullmatch(r"f\d+", n) for n in names), names
    seconds = sum(f["wait_seconds"] for f in run["no cache"]["files"])
    assert 0.2 < seconds / run["no cache"]["wait_seconds"] < 2, seconds
    # The last sample is the whole.
    last = run["cold"]["samples"][-1]
    assert last["dram"] + last["disk"] + last["blob"] == FILES * SIZE, last


@libblob.test
def a_job_that_does_not_wait_is_told_so(server):
    for _ in range(4):
        answer, run = figures(server, "--", "sh", "-c", f"cat {MOUNT}/f1 >/dev/null; sleep 3")
        seconds = [r["seconds"] for r in run.values()]
        # Another program may have had the processor: then they did differ.
        if max(seconds) < 1.08 * min(seconds):
            break
    assert "does not change how long" in answer["advice"], answer["advice"]


@libblob.test
def a_loss_is_not_hidden(server):
    with tempfile.TemporaryDirectory() as top:
        # Each run takes a second longer than the one before.
        slow = (f"cat {MOUNT}/f1 >/dev/null; echo >>{top}/n; "
                f"sleep $(awk 'END {{ print NR }}' {top}/n)")
        answer, run = figures(server, "--", "sh", "-c", slow)
    assert answer["advice"].startswith("Do not use the cache"), answer["advice"]
    assert "loses" in answer["advice"], answer["advice"]


@libblob.test
def a_command_that_fails_or_reads_nothing_gets_no_praise(server):
    answer, run = figures(server, "--", "sh", "-c", READ_ALL + "; exit 3", want=1)
    assert {r["status"] for r in run.values()} == {3} and "ended with 3" in answer["advice"], answer
    answer, run = figures(server, "--", "true")
    assert "read nothing below the mount" in answer["advice"], answer
    assert trial(server, "--", "no-such-command", want=127).stdout == ""


@libblob.test
def the_commands_output_stays_apart_from_json_and_its_input_is_empty(server):
    done = trial(server, "--json", "--", "sh", "-c", "echo to-nobody; cat")
    json.loads(done.stdout)
    assert done.stderr.count("to-nobody") == 3, done.stderr
    text = trial(server, "--runs", "2", "--", "sha256sum", MOUNT + "/f1").stdout
    for words in ("no cache", "wall time", "from, to", "requests to Blob", "price, USD", "estimate"):
        assert words in text, (words, text)
    assert text.rstrip().splitlines()[-1].endswith("."), text


@libblob.test
def a_second_round_begins_cold_again(server):
    answer, _ = figures(server, "--runs", "2", "--price", "10", "--", "sh", "-c", READ_ALL)
    cold = [r for r in answer["runs"] if r["mode"] == "cold"]
    assert len(cold) == 2 and all(r["stat"]["origin"]["requests"] >= FILES for r in cold), cold
    for r in answer["runs"]:
        assert abs(r["price_usd"] - r["stat"]["origin"]["requests"] * 10 / 10000) < 1e-6, r["price_usd"]


class Page(html.parser.HTMLParser):
    """Open tags are closed in order; what the page would load is kept."""
    VOID = {"meta", "br", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.count = [], [], {}
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)


@libblob.test
def the_page_is_whole_alone_and_escaped(server):
    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "report.html")
        trial(server, "--runs", "2", "--report", path, "--", "sh", "-c", READ_ALL + " # <b>&\"'")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        page = Page(text)
        assert page.loads == [] and "http" not in text and "<script" not in text
        assert page.count["svg"] == 8 and page.count["table"] == 1, page.count
        assert "&lt;b&gt;&amp;&quot;" in text and "<b>" not in text
        assert "prefers-color-scheme:dark" in text and "width=device-width" in text
        assert "Use the cache" in text and "NaN" not in text and "nan" not in re.findall(r'="[^"]*"', text)
        for title in ("How long it took", "Where the bytes came from", "Bytes a second, no cache",
                      "Bytes a second, cold", "Bytes a second, warm", "How long reads took",
                      "Which processes waited for data", "Which files they waited for"):
            assert re.search(rf"<h2>{title}</h2>.*?<svg", text, re.S), title
        assert_latency_by_tier(text)


def assert_latency_by_tier(text):
    """A histogram a run, one below the other: what came from Blob is where it was fetched."""
    picture = re.search(r'<svg[^>]*aria-label="histograms.*?</svg>', text, re.S)[0]
    titles = [(float(y), title) for y, title in re.findall(r'y="([0-9.]+)">(no cache|cold|warm)<', picture)]
    bars = [(float(y), tier) for tier, y in re.findall(r'<rect class="(\w+)" x="[^"]*" y="([^"]*)"', picture)]
    seen = {title: {tier for y, tier in bars if top <= y < top + 70} for top, title in titles}
    assert "blob" in seen["no cache"] and "blob" in seen["cold"], seen
    assert seen["warm"] and seen["warm"] <= {"dram", "disk"}, seen


# What the page looks like in a browser, said by the page.
PROBE = r"""<script>addEventListener('load', () => { const color = s => getComputedStyle(document.body)[s]
  .match(/\d+/g).reduce((sum, n) => sum + +n, 0); parent.postMessage([innerWidth, 'wide',
  document.documentElement.scrollWidth > innerWidth, 'svg', [...document.querySelectorAll('svg')].every(s => {
  const b = s.getBBox(); return b.width > 50 && b.x >= -1 && b.x + b.width <= 362; }),
  'dark', color('backgroundColor') < color('color')].join(' '), '*'); })</script>"""
FRAME = """<!DOCTYPE html><script>addEventListener('message', e => { document.title = e.data; })</script>
<iframe src="probed.html" width="%d" height="800" style="border:0"></iframe>"""


@libblob.test
def the_page_fits_a_phone_and_a_desk_by_day_and_by_night(server):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        raise libblob.Skip("no chromium")
    with tempfile.TemporaryDirectory() as top:
        path = os.path.join(top, "report.html")
        # A long command and long names of files: they must not make the page wide.
        trial(server, "--report", path, "--", "sh", "-c", READ_ALL + " # " + "long" * 40)
        with open(path, encoding="utf-8") as page, open(os.path.join(top, "probed.html"), "w", encoding="utf-8") as f:
            f.write(page.read().replace("</head>", PROBE + "</head>"))
        for width in (360, 1280):
            # A window is never narrower than 500, a frame may be.
            with open(os.path.join(top, "frame.html"), "w", encoding="utf-8") as f:
                f.write(FRAME % width)
            for is_dark in (False, True):
                assert rendered(chromium, top, is_dark) == (
                    f"{width} wide false svg true dark {str(is_dark).lower()}"), (width, is_dark)


def rendered(chromium, top, is_dark):
    done = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu",
                           f"--user-data-dir={top}/profile", "--window-size=1400,900",
                           f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
                           "--virtual-time-budget=10000", "--dump-dom", f"file://{top}/frame.html"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    title = re.search("<title>(.*?)</title>", done.stdout)
    assert title, (done.stdout[:500], done.stderr[-1000:])
    return title[1]


@libblob.test
def interrupted_it_leaves_nothing_behind(server):
    place = Place()
    try:
        p = subprocess.Popen(command(server, place, "--", "sleep", "30"), env=environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        libblob.eventually(lambda: "no cache" in p.stderr.readline())
        libblob.eventually(place.left)
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=20)
        assert p.returncode == 130 and place.left() == [], (p.returncode, place.left())
    finally:
        shutil.rmtree(place.top, ignore_errors=True)


@libblob.test
def wrong_options_run_nothing(server):
    for args in (["--runs", "0", "--", "true"], ["--price", "x", "--", "true"], [],
                 ["--report", "/nowhere/r.html", "--", "true"]):
        assert trial(server, *args, want=125).stdout == ""


with libblob.serve("--latency", "60") as served:
    for i in range(FILES):
        served.write(f"data/f{i}", os.urandom(SIZE))
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), served)
