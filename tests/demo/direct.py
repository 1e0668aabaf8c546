#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""direct.py URL: the job of train.py without a cache, one GET a file.

What a team writes who has no mount: the same Dataset, but its files come over
HTTP from Blob, on a connection that each worker keeps.  Credentials: a SAS in
URL, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY (SharedKey).
"""
import base64
import hashlib
import hmac
import http.client
import io
import os
import urllib.parse
import xml.etree.ElementTree
from email.utils import formatdate

import train

VERSION = "2021-12-02"


class Container:
    """GET and List on one container."""

    def __init__(self, url):
        self.url = urllib.parse.urlsplit(url)
        parts = self.url.path.strip("/").split("/")
        # http://HOST:PORT/ACCOUNT/CONTAINER has the account in its path.
        is_path_style = not self.url.hostname.endswith(".net")
        self.account = os.environ.get("AZURE_STORAGE_ACCOUNT", parts[0])
        self.base = "/" + "/".join(parts[:2 if is_path_style else 1])
        self.prefix = "/".join(parts[2 if is_path_style else 1:])
        self.key = base64.b64decode(os.environ.get("AZURE_STORAGE_KEY", ""))
        self.connection, self.pid = None, 0

    def authorization(self, path, query, headers):
        canonical = "".join(f"{k}:{headers[k]}\n" for k in sorted(headers))
        resource = f"/{self.account}{path}" + "".join(f"\n{k}:{query[k]}" for k in sorted(query))
        text = "GET" + "\n" * 12 + canonical + resource
        digest = hmac.new(self.key, text.encode(), hashlib.sha256).digest()
        return f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"

    def connect(self):
        if self.pid != os.getpid():  # a connection is not shared over fork
            kind = http.client.HTTPSConnection if self.url.scheme == "https" \
                else http.client.HTTPConnection
            self.connection, self.pid = kind(self.url.netloc), os.getpid()
        return self.connection

    def get(self, path, query):
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        target = path + "?" + urllib.parse.urlencode(query)
        if self.url.query:
            target += "&" + self.url.query
        else:
            headers["Authorization"] = self.authorization(path, query, dict(headers))
        connection = self.connect()
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"GET {path}: {answer.status} {answer.reason}")
        return body

    def blob(self, name):
        name = f"{self.prefix}/{name}" if self.prefix else name
        return self.get(self.base + "/" + urllib.parse.quote(name), {})

    def names(self, folder):
        folder = (f"{self.prefix}/{folder}" if self.prefix else folder) + "/"
        query = {"restype": "container", "comp": "list", "delimiter": "/", "prefix": folder}
        while True:
            page = xml.etree.ElementTree.fromstring(self.get(self.base, query))
            for name in page.iterfind("./Blobs/*/Name"):
                yield name.text[len(folder):].rstrip("/")
            query["marker"] = page.findtext("NextMarker")
            if not query["marker"]:
                return


class ImageGets(train.ImageFolders):
    def __init__(self, url):
        self.container = Container(url)
        super().__init__(url)

    def names(self, folder):
        return list(self.container.names(folder))

    def open(self, name):
        return io.BytesIO(self.container.blob(name))


if __name__ == "__main__":
    train.main(ImageGets)
