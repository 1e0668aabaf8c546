#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""demo.py [URL]: a PyTorch job that reads its dataset from Blob, three times.

Without a URL it starts `dz serve`, our stand-in for Azure Blob Storage, on
loopback, and lets it answer as late as Blob does.  The job is train.py, which
knows nothing of us; between its epochs `dz stat` says where its bytes came from.

It fails (exit 1) when the first epoch asks Blob for a byte twice, or when the
second epoch or a second run of the job asks Blob for anything.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

TOP = os.environ.get("DZ_TOP") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DZ_BUILD") or os.path.join(TOP, "build")
HERE = os.path.join(TOP, "tests", "demo")
DZ = os.path.join(BUILD, "dz")
WORK = os.path.join(BUILD, "demo")
PYTHON = "/usr/bin/python3"  # Debian's, which has python3-torch
MOUNT = "/mnt/blob"
# A read of a small blob in the account's own region takes this long and more.
LATENCY_MS = int(os.environ.get("DEMO_LATENCY_MS", "5"))
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Failed(Exception):
    pass


def human(n):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return ""


class StandIn:
    """dz serve, and what its log says."""

    def __init__(self, env):
        self.log = os.path.join(WORK, "serve.log")
        self.seen = 0
        open(self.log, "w").close()
        command = [DZ, "serve", "--root", os.path.join(WORK, "blobs"), "--log", self.log,
                   "--latency", str(LATENCY_MS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        line = self.process.stdout.readline()
        if not line.startswith("URL "):
            raise Failed("dz serve did not start")
        self.url = line.split()[1] + "/data"

    def data_gets(self):
        """(GETs of blobs, bytes that they sent) since the last call."""
        gets = sent = 0
        with open(self.log) as f:
            f.seek(self.seen)
            for line in f:
                entry = json.loads(line)
                if entry["op"] == "get":
                    gets, sent = gets + 1, sent + entry["bytes"]
            self.seen = f.tell()
        return gets, sent

    def close(self):
        self.process.terminate()
        self.process.wait()


def stat(env):
    out = subprocess.run([DZ, "stat", "--json"], env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


class Meter:
    """What happened since the last look: from dz stat, and from the server where it is ours."""

    def __init__(self, env, server):
        self.env, self.server = env, server
        self.last = stat(env)
        if server:
            server.data_gets()

    def take(self):
        now = stat(self.env)
        tiers = {t: now["hit_bytes"][t] - self.last["hit_bytes"][t] for t in now["hit_bytes"]}
        requests = now["origin"]["requests"] - self.last["origin"]["requests"]
        fetched = now["origin"]["bytes"] - self.last["origin"]["bytes"]
        self.last = now
        if self.server:
            return tiers, *self.server.data_gets()
        return tiers, requests, fetched


def print_tiers(tiers, gets, fetched):
    total = max(sum(tiers.values()), 1)
    shares = ", ".join(f"{title} {human(tiers[t])} ({100 * tiers[t] / total:.1f} %)"
                       for t, title in (("dram", "DRAM"), ("disk", "NVMe"), ("blob", "Blob")))
    print(f"         read: {shares}; {gets} GETs, {human(fetched)} from Blob", flush=True)


def run_job(title, command, env, meter=None):
    """Runs the job; images/s of each epoch, and what each read."""
    print(f"\n{title}\n  $ {' '.join(command).replace(TOP + '/', '')}", flush=True)
    job = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    start, rates, epochs = time.monotonic(), [], []
    try:
        for line in job.stdout:
            print("  " + line.rstrip(), flush=True)
            if not line.startswith("epoch "):
                continue
            rates.append(float(re.search(r"([0-9.]+) images/s", line)[1]))
            if meter:
                epochs.append(meter.take())
                print_tiers(*epochs[-1])
    finally:
        if job.poll() is None and sys.exc_info()[0]:
            job.terminate()
        status = job.wait()
    if status:
        raise Failed(f"the job ended with {status}")
    print(f"  whole job: {time.monotonic() - start:.1f} s", flush=True)
    return rates, epochs


def dataset_bytes():
    """Files and bytes that the job reads: the images and the test set."""
    root, files, size = os.path.join(WORK, "blobs", "data"), 0, 0
    for folder, _, names in os.walk(os.path.join(root, "train")):
        files += len(names)
        size += sum(os.path.getsize(os.path.join(folder, name)) for name in names)
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        files += 1
        size += os.path.getsize(os.path.join(root, name))
    return files, size


def expect(what, is_so):
    print(f"  {'ok    ' if is_so else 'FAILED'} {what}", flush=True)
    return is_so


def check(first, second, server):
    files, size = dataset_bytes()
    # Where the server is not ours, what we count has the listing in it: under 1,000 bytes a name.
    listing = 0 if server else 1000 * files
    print(f"\nWas it so?  The job reads {files} files, {human(size)}.")
    good = [expect(f"epoch 1 asked Blob once for each byte: {first[0][2]} of {size}" +
                   (" and the listing" if listing else ""), size <= first[0][2] <= size + listing),
            expect(f"epoch 2 asked Blob for nothing: {first[1][1]} GETs", first[1][1] == 0),
            expect(f"the second run asked Blob for nothing: {sum(e[1] for e in second)} GETs",
                   sum(e[1] for e in second) == 0)]
    return all(good)


def is_uploaded(url, env):
    """Has each folder there as many files as here?"""
    top, (plain, mark, sas) = os.path.join(WORK, "blobs", "data"), url.partition("?")
    for folder, _, names in os.walk(top):
        below = os.path.relpath(folder, top)
        there = plain.rstrip("/") + ("" if below == "." else "/" + below)
        listing = subprocess.run([DZ, "ls", "--json", there + mark + sas], env=env, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)
        if listing.returncode or sum(e["type"] == "file" for e in json.loads(listing.stdout)) < len(names):
            return False
    return True


def upload(url, env):
    """A real account: the dataset goes there unless it is there."""
    uploaded = is_uploaded(url, env)
    # What was not there a moment ago would not be there for its time to live.
    subprocess.run([DZ, "purge", "--disk"], env=env, check=True)
    if uploaded:
        return
    plain = urllib.parse.urlsplit(url.split("?")[0])
    parts = plain.path.strip("/").split("/")
    # http://HOST:PORT/ACCOUNT/CONTAINER has the account in its path.
    n = 0 if plain.hostname.endswith(".net") else 1
    account_url = f"{plain.scheme}://{plain.netloc}" + "".join("/" + part for part in parts[:n])
    print(f"uploading the dataset to {url.split('?')[0]}", flush=True)
    put = [PYTHON, os.path.join(TOP, "tests", "tools", "putblob.py"), "--url", account_url]
    subprocess.run(put + ["create", parts[n]], env=env, check=True)
    subprocess.run(put + ["put-tree", parts[n], os.path.join(WORK, "blobs", "data")] +
                   ["".join(part + "/" for part in parts[n + 1:])], env=env, check=True)


def trial(url, train, env):
    """What a team would run to decide; the page stays."""
    report = os.path.join(WORK, "trial.html")
    command = [DZ, "trial", "-m", f"{MOUNT}={url}", "--cache-dir", WORK, "--report", report, "--", *train]
    print(f"\n4. Is it helping?  The job, three times\n  $ {' '.join(command).replace(TOP + '/', '')}", flush=True)
    # Directories of its own: the caches of a trial are empty when it begins.
    own = {k: v for k, v in env.items() if k not in ("DELTAZERO_SHM_DIR", "DELTAZERO_CACHE_DIR")}
    subprocess.run(command, env=own, check=True, stdin=subprocess.DEVNULL)
    print(f"  the same with pictures: {os.path.relpath(report, TOP)}", flush=True)
    photograph(report)


def photograph(report):
    """The page as the README shows it, where there is a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    picture = report.replace(".html", ".png")
    if browser and subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                                   f"--user-data-dir={WORK}/browser", "--window-size=1100,1750",
                                   f"--screenshot={picture}", "file://" + report], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).returncode == 0:
        print(f"  and as a picture: {os.path.relpath(picture, TOP)}", flush=True)
    shutil.rmtree(os.path.join(WORK, "browser"), ignore_errors=True)


def demo(url, env):
    subprocess.run([PYTHON, os.path.join(HERE, "prepare.py"), os.path.join(WORK, "blobs", "data")],
                   check=True)
    server = None
    if not url:
        env.update(AZURE_STORAGE_ACCOUNT=ACCOUNT, AZURE_STORAGE_KEY=KEY)
        server = StandIn(env)
        url = server.url
        print(f"dz serve stands in for Azure Blob Storage at {url}, and answers after {LATENCY_MS} ms "
              "as Blob does\n(DEMO_LATENCY_MS=N changes that)")
    else:
        upload(url, env)
    try:
        train = [PYTHON, os.path.join(HERE, "train.py"), MOUNT]
        cached = [DZ, "run", "-m", f"{MOUNT}={url}", "--"] + train
        meter = Meter(env, server)
        cold, first = run_job("1. The job, cache empty", cached, env, meter)
        again, second = run_job("2. The same job again", cached, env, meter)
        without, _ = run_job("3. The same job without the cache: one GET a file, each worker on its own connection",
                             [PYTHON, os.path.join(HERE, "direct.py"), url], env)
        if server:
            print(f"         {server.data_gets()[0]} GETs")
        warm = cold[1:] + again
        print("\nimages/s:  " + ",  ".join([f"cold {cold[0]:.0f}", f"warm {min(warm):.0f} to {max(warm):.0f}",
                                            f"without the cache {min(without):.0f} to {max(without):.0f}"]))
        good = check(first, second, server)
        trial(url, train, env)
        return good
    finally:
        if server:
            server.close()


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else ""
    os.makedirs(WORK, exist_ok=True)
    shm = tempfile.mkdtemp(prefix="dz-demo.", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    cache = tempfile.mkdtemp(prefix="cache.", dir=WORK)
    env = dict(os.environ, DELTAZERO_SHM_DIR=shm, DELTAZERO_CACHE_DIR=cache, DELTAZERO_DRAM_SIZE="256M",
               DELTAZERO_DISK_SIZE="512M", DELTAZERO_METADATA_TTL="600",
               PYTHONWARNINGS="ignore:This DataLoader")
    env.pop("DELTAZERO_MOUNT", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return 0 if demo(url, env) else 1
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        subprocess.run([DZ, "purge"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(shm, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
