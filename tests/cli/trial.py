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
import time

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
    # The server answers after 30 ms, so somebody has to wait, however much is asked for ahead.
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
    answer, run = figures(server, "--", "sh", "-c", f"cat {MOUNT}/f1 >/dev/null; sleep 4")
    assert "does not change how long" in answer["advice"], answer["advice"]


@libblob.test
def a_loss_is_not_hidden(server):
    with tempfile.TemporaryDirectory() as top:
        # Each run takes half a second longer than the one before.
        slow = (f"cat {MOUNT}/f1 >/dev/null; echo >>{top}/n; "
                f"sleep $(awk 'END {{ print NR / 2 }}' {top}/n)")
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
    answer, _ = figures(server, "--runs", "2", "--", "sh", "-c", READ_ALL)
    cold = [r for r in answer["runs"] if r["mode"] == "cold"]
    assert len(cold) == 2 and all(r["stat"]["origin"]["requests"] >= FILES for r in cold), cold


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
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if chromium:
            rendered(chromium, path, top)


def rendered(chromium, path, top):
    """In a browser: no picture is wider than the page, on a phone as on a desk."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    probe = ("<script>addEventListener('load', () => { document.title = 'wide ' + "
             "(document.documentElement.scrollWidth > innerWidth) + ' svg ' + "
             "[...document.querySelectorAll('svg')].every(s => { const b = s.getBBox(); "
             "return b.width > 50 && b.x >= -1 && b.x + b.width <= 362; }); })</script>")
    probed = os.path.join(top, "probed.html")
    with open(probed, "w", encoding="utf-8") as f:
        f.write(text.replace("</head>", probe + "</head>"))
    for width in (500, 1280):
        dom = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu",
                              f"--user-data-dir={top}/profile", f"--window-size={width},900",
                              "--dump-dom", "file://" + probed], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, timeout=60).stdout
        title = re.search("<title>(.*?)</title>", dom)
        assert title and title[1] == "wide false svg true", (width, title and title[1])


@libblob.test
def interrupted_it_leaves_nothing_behind(server):
    place = Place()
    try:
        p = subprocess.Popen(command(server, place, "--", "sleep", "30"), env=environment(),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        libblob.eventually(lambda: "no cache" in p.stderr.readline())
        time.sleep(0.3)
        assert place.left()
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


with libblob.serve("--latency", "30") as served:
    for i in range(FILES):
        served.write(f"data/f{i}", os.urandom(SIZE))
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), served)
