# SPDX-License-Identifier: MIT
"""A Blob client for tests, from the protocol's documentation and the standard
library only: it shares no code with the client in cache/blob and none with dz
serve, so that each of the three judges the others.

Also here: starting dz serve, and TAP for test functions whose names are
sentences.
"""

import base64
import contextlib
import datetime
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
import xml.etree.ElementTree

ACCOUNT = "devstoreaccount1"
KEY = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq"
       "/K1SZFPTOtr/KBHBeksoGMGw==")
VERSION = "2021-12-02"
SIGNED_HEADERS = ["content-encoding", "content-language", "content-length", "content-md5",
                  "content-type", "date", "if-modified-since", "if-match", "if-none-match",
                  "if-unmodified-since", "range"]


def mac(key, text):
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def quote(text):
    return urllib.parse.quote(text, safe="/-._~")


def query_string(query):
    return "&".join(f"{k}={urllib.parse.quote(str(v), safe='-._~')}" for k, v in query.items())


def utc(seconds=0):
    """The time `seconds` from now, as SAS fields have it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = body

    @property
    def code(self):
        return self.headers.get("x-ms-error-code", "")

    def __getitem__(self, name):
        return self.headers.get(name.lower())

    def xml(self):
        return xml.etree.ElementTree.fromstring(self.body.decode("utf-8-sig"))


class Client:
    """One connection to an account; signs with SharedKey unless told otherwise."""

    def __init__(self, url, account=ACCOUNT, key=KEY):
        parts = urllib.parse.urlsplit(url)
        self.netloc, self.base = parts.netloc, parts.path.rstrip("/")
        self.account, self.key = account, key
        self.conn = None

    def close(self):
        if self.conn:
            self.conn.close()
        self.conn = None

    def path(self, name):
        return self.base + "/" + quote(name)

    def authorization(self, method, path, query, headers):
        lower = {k.lower(): str(v).strip() for k, v in headers.items()}
        lines = [method]
        for name in SIGNED_HEADERS:
            value = lower.get(name, "")
            if name == "content-length" and value == "0":
                value = ""
            lines.append("" if name == "date" and "x-ms-date" in lower else value)
        lines += [f"{k}:{lower[k]}" for k in sorted(lower) if k.startswith("x-ms-")]
        resource = f"/{self.account}{path}"
        for key in sorted(query, key=str.lower):
            resource += f"\n{key.lower()}:{query[key]}"
        text = "\n".join(lines) + "\n" + resource
        return f"SharedKey {self.account}:{mac(self.key, text)}"

    def request(self, method, name, query=None, headers=None, body=None, sas=None, auth=True,
                authorization=None):
        query, path = dict(query or {}), self.path(name)
        sent = {"x-ms-version": VERSION, "x-ms-date": email.utils.formatdate(usegmt=True)}
        sent.update(headers or {})
        if body is not None or method == "PUT":
            sent["Content-Length"] = str(len(body or b""))
        target = path + ("?" if query or sas else "")
        target += "&".join(filter(None, [query_string(query), sas]))
        if authorization:
            sent["Authorization"] = authorization
        elif auth and not sas:
            sent["Authorization"] = self.authorization(method, path, query, sent)
        return self.send(method, target, sent, body)

    def send(self, method, target, headers, body=None):
        """As it is; a connection that the server has closed is opened again."""
        for attempt in (1, 2):
            if not self.conn:
                self.conn = http.client.HTTPConnection(self.netloc, timeout=30)
                attempt = 2
            try:
                self.conn.putrequest(method, target, skip_accept_encoding=True)
                for name, value in headers.items():
                    self.conn.putheader(name, str(value).encode("latin-1"))
                self.conn.endheaders(body)
                response = self.conn.getresponse()
                return Answer(response, response.read())
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if attempt == 2:
                    raise
            except Exception:
                self.close()
                raise
        raise AssertionError("not reached")

    # The operations, in the order of the documentation.
    def create(self, container):
        return self.request("PUT", container, {"restype": "container"})

    def put(self, name, body, **headers):
        return self.request("PUT", name, headers={"x-ms-blob-type": "BlockBlob",
                                                  **dashed(headers)}, body=body)

    def get(self, name, **headers):
        return self.request("GET", name, headers=dashed(headers))

    def head(self, name, **headers):
        return self.request("HEAD", name, headers=dashed(headers))

    def delete(self, name, **headers):
        return self.request("DELETE", name, headers=dashed(headers))

    def block(self, name, block_id, body):
        return self.request("PUT", name, {"comp": "block", "blockid": b64(block_id)}, body=body)

    def commit(self, name, ids, where="Latest", **headers):
        xml_text = "".join(f"<{where}>{b64(i)}</{where}>" for i in ids)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{xml_text}</BlockList>'
        return self.request("PUT", name, {"comp": "blocklist"}, dashed(headers), body.encode())

    def list(self, container, sas=None, **query):
        return self.request("GET", container, {"restype": "container", "comp": "list", **query},
                            sas=sas)

    # What tests ask for.
    def names(self, container, **query):
        """One page: the names in their order, prefixes as ("prefix", name)."""
        answer = self.list(container, **query)
        assert answer.status == 200, (answer.status, answer.body)
        return entries(answer)

    def pages(self, container, **query):
        marker, out = "", []
        while True:
            answer = self.list(container, marker=marker, **query)
            assert answer.status == 200, (answer.status, answer.body)
            out.append(entries(answer))
            marker = answer.xml().findtext("NextMarker") or ""
            if not marker:
                return out

    # Shared access signatures.
    def service_sas(self, container, blob=None, **fields):
        f = {"sp": "r", "se": utc(3600), "sv": VERSION, "sr": "b" if blob else "c", **fields}
        resource = f"/blob/{self.account}/{container}" + (f"/{blob}" if blob else "")
        g = lambda k: f.get(k, "")
        lines = [g("sp"), g("st"), g("se"), resource, g("si"), g("sip"), g("spr"), g("sv")]
        if f["sv"] >= "2018-11-09":
            lines += [g("sr"), g("snapshot")]
        if f["sv"] >= "2020-12-06":
            lines += [g("ses")]
        lines += [g("rscc"), g("rscd"), g("rsce"), g("rscl"), g("rsct")]
        return query_string({**f, "sig": mac(self.key, "\n".join(lines))})

    def account_sas(self, **fields):
        f = {"sp": "rl", "ss": "b", "srt": "co", "se": utc(3600), "sv": VERSION, **fields}
        names = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"]
        if f["sv"] >= "2020-12-06":
            names.append("ses")
        text = "".join(v + "\n" for v in [self.account] + [f.get(n, "") for n in names])
        return query_string({**f, "sig": mac(self.key, text)})


def dashed(headers):
    """Keyword arguments as header names: if_match -> if-match."""
    return {k.replace("_", "-"): v for k, v in headers.items()}


def b64(text):
    return base64.b64encode(text.encode()).decode()


def entries(answer):
    out = []
    for e in answer.xml().find("Blobs"):
        name = e.find("Name")
        text = name.text or ""
        if name.get("Encoded") == "true":
            text = urllib.parse.unquote(text)
        out.append(("prefix", text) if e.tag == "BlobPrefix" else text)
    return out


# ---- dz serve ----

class Served:
    def __init__(self, process, url, root, log):
        self.process, self.url, self.root, self.log_path = process, url, root, log
        self.client = Client(url)

    def write(self, name, data):
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    def log(self):
        with open(self.log_path) as f:
            return [json.loads(line) for line in f]

    def port(self):
        return urllib.parse.urlsplit(self.url).port

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def dz():
    return os.environ.get("DZ") or os.path.join(os.environ.get("DZ_BUILD", "build"), "dz")


@contextlib.contextmanager
def serve(*args, faults=None, env=None, root=None):
    with tempfile.TemporaryDirectory() as tmp:
        root = root or os.path.join(tmp, "root")
        os.makedirs(os.path.join(root, "data"), exist_ok=True)
        log = os.path.join(tmp, "log")
        command = [dz(), "serve", "--root", root, "--log", log, *args]
        if faults is not None:
            rules = os.path.join(tmp, "faults")
            with open(rules, "w") as f:
                f.write(faults)
            command += ["--fault", rules]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, **(env or {})})
        line = process.stdout.readline()
        found = re.fullmatch(r"URL (http://127\.0\.0\.1:\d+/\w+)\n", line)
        assert found, f"first line of dz serve: {line!r}"
        try:
            yield Served(process, found[1], root, log)
        finally:
            if process.poll() is None:
                assert Served(process, "", "", "").stop() == 0
            process.stdout.close()


# ---- TAP ----

class Skip(Exception):
    """Raised by a test that cannot be done here, with the reason."""


def run_tests(tests, *args):
    """Runs functions as TAP; the name of each is what it claims."""
    print(f"1..{len(tests)}")
    failed = 0
    for number, test in enumerate(tests, 1):
        name = test.__name__.replace("_", " ")
        try:
            test(*args)
            print(f"ok {number} - {name}", flush=True)
        except Skip as why:
            print(f"ok {number} - {name} # SKIP {why}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}")
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()),
                  flush=True)
    sys.exit(failed > 0)


def tests_of(module):
    """The functions of a module that are tests: public, defined there, in order."""
    return [f for n, f in vars(module).items()
            if callable(f) and not n.startswith("_") and getattr(f, "is_test", False)]


def test(function):
    function.is_test = True
    return function


def least_seconds(work, enough, tries=5):
    """How long `work` takes when the machine has time for it: tried again until under `enough`."""
    took = []
    while len(took) < tries and (not took or took[-1] >= enough):
        start = time.monotonic()
        work()
        took.append(time.monotonic() - start)
    return min(took)


def eventually(claim, seconds=20):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "did not become true"
        time.sleep(0.01)
