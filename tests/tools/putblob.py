#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts test data into a Blob endpoint: Azurite, `dz serve`, or an account.

    putblob.py [--url URL] [--account A] [--key K] COMMAND...
        create CONTAINER                  (it may exist already)
        put CONTAINER NAME FILE           (FILE `-`: standard input)
        put-tree CONTAINER DIR [PREFIX]   (in parallel; empty directories are left out)
        mkdir CONTAINER NAME              (an empty blob with hdi_isfolder)
        delete CONTAINER NAME
        sas CONTAINER [--expired]         (prints a service SAS: read and list, one day)

URL is http://HOST:PORT/ACCOUNT or https://ACCOUNT.blob.core.windows.net; account
and key are the emulator's public ones unless given or in AZURE_STORAGE_ACCOUNT
and AZURE_STORAGE_KEY.  Exit status 1 and one line on standard error when the
service refuses.  Python's standard library only: it shares nothing with the
client that it tests.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import hmac
import http.client
import os
import sys
import threading
import time
import urllib.parse

EMULATOR_ACCOUNT = "devstoreaccount1"
EMULATOR_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
    "K1SZFPTOtr/KBHBeksoGMGw=="
)
VERSION = "2021-12-02"
THREADS = 8


class Refused(Exception):
    """The service answered, and did not do it."""


class Service:
    """One endpoint and its key; a connection for each thread."""

    def __init__(self, url, account, key):
        self.url = urllib.parse.urlsplit(url.rstrip("/"))
        self.account = account or self.url.path.strip("/") or self.url.hostname.split(".")[0]
        self.key = base64.b64decode(key)
        self.local = threading.local()

    def connection(self):
        if not hasattr(self.local, "connection"):
            https = self.url.scheme == "https"
            kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
            self.local.connection = kind(self.url.netloc, timeout=60)
        return self.local.connection

    def sign(self, text):
        mac = hmac.new(self.key, text.encode("utf-8"), hashlib.sha256)
        return base64.b64encode(mac.digest()).decode("ascii")

    def authorization(self, verb, path, query, headers, length):
        """Shared Key, as "Authorize with Shared Key" of the REST reference has it."""
        get = {name.lower(): value for name, value in headers.items()}.get
        lines = [verb, "", "", str(length) if length else "", "", get("content-type", "")]
        lines += [""] * 6  # Date, the four conditions, Range
        lines += sorted(f"{name}:{value}" for name, value in headers.items()
                        if name.startswith("x-ms-"))
        resource = f"/{self.account}{path}"
        for name, value in sorted(query.items()):
            resource += f"\n{name}:{value}"
        return f"SharedKey {self.account}:{self.sign(chr(10).join(lines + [resource]))}"

    def request(self, verb, name, query=None, headers=None, body=b"", good=(200, 201, 202)):
        """`name` is CONTAINER or CONTAINER/BLOB, not encoded."""
        query = query or {}
        path = self.url.path + "/" + urllib.parse.quote(name, safe="/~")
        headers = dict(headers or {})
        headers["x-ms-version"] = VERSION
        headers["x-ms-date"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        headers["Authorization"] = self.authorization(verb, path, query, headers, len(body))
        headers["Content-Length"] = str(len(body))
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        answer = self.exchange(verb, target, body, headers)
        data = answer.read()
        if answer.status not in good:
            code = answer.getheader("x-ms-error-code") or data[:200].decode("utf-8", "replace")
            raise Refused(f"{verb} {path}: {answer.status} {code}")
        return answer

    def exchange(self, verb, target, body, headers):
        connection = self.connection()
        try:
            connection.request(verb, target, body, headers)
            return connection.getresponse()
        except (http.client.HTTPException, ConnectionError):
            # A connection that was kept open may have been closed by the server.
            connection.close()
            connection.request(verb, target, body, headers)
            return connection.getresponse()

    def create(self, container):
        self.request("PUT", container, {"restype": "container"}, good=(201, 409))

    def put(self, container, name, data, headers=None):
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream",
                   **(headers or {})}
        self.request("PUT", f"{container}/{name}", headers=headers, body=data)

    def mkdir(self, container, name):
        self.put(container, name, b"", {"x-ms-meta-hdi_isfolder": "true"})

    def delete(self, container, name):
        self.request("DELETE", f"{container}/{name}")

    def sas(self, container, expired):
        """A service SAS of version 2020-12-06 for reading and listing a container."""
        now = time.time()
        begin, end = (now - 7200, now - 3600) if expired else (now - 300, now + 86400)
        stamp = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t)) for t in (begin, end)]
        version = "2020-12-06"
        fields = ["rl", stamp[0], stamp[1], f"/blob/{self.account}/{container}", "", "", "",
                  version, "c", "", "", "", "", "", "", ""]
        query = {"sv": version, "st": stamp[0], "se": stamp[1], "sr": "c", "sp": "rl",
                 "sig": self.sign("\n".join(fields))}
        return urllib.parse.urlencode(query)


def put_tree(service, container, top, prefix):
    """Every file below `top`; returns how many."""
    files = []
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            files.append((prefix + os.path.relpath(path, top), path))

    def put_file(item):
        with open(item[1], "rb") as file:
            service.put(container, item[0], file.read())

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(put_file, files):
            pass
    return len(files)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default=f"http://127.0.0.1:10000/{EMULATOR_ACCOUNT}")
    parser.add_argument("--account", default=os.environ.get("AZURE_STORAGE_ACCOUNT"))
    parser.add_argument("--key", default=os.environ.get("AZURE_STORAGE_KEY", EMULATOR_KEY))
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {
        "create": ["container"],
        "put": ["container", "name", "file"],
        "put-tree": ["container", "dir"],
        "mkdir": ["container", "name"],
        "delete": ["container", "name"],
        "sas": ["container"],
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            command.add_argument(argument)
        if name == "put-tree":
            command.add_argument("prefix", nargs="?", default="")
        if name == "sas":
            command.add_argument("--expired", action="store_true")
    return parser.parse_args()


def run(args):
    service = Service(args.url, args.account, args.key)
    if args.command == "create":
        service.create(args.container)
    elif args.command == "put":
        with open(0 if args.file == "-" else args.file, "rb") as file:
            service.put(args.container, args.name, file.read())
    elif args.command == "put-tree":
        count = put_tree(service, args.container, args.dir, args.prefix)
        print(f"{count} blobs", file=sys.stderr)
    elif args.command == "mkdir":
        service.mkdir(args.container, args.name)
    elif args.command == "delete":
        service.delete(args.container, args.name)
    elif args.command == "sas":
        print(service.sas(args.container, args.expired))


def main():
    try:
        run(parse_arguments())
    except (Refused, OSError) as error:
        print(f"putblob: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
