#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hands out tokens as Microsoft Entra and the identity endpoints of hosts do.

    tokens.py --token-file FILE [--lifetime S] [--refuse N]

Prints `URL http://127.0.0.1:PORT`.  Each good request gets a new token
(TOKEN-1, TOKEN-2, ...), which is also written to FILE, where `dz serve
--token-file` finds it.  POST /TENANT/oauth2/v2.0/token wants client_id `client`
and client_secret `secret` or client_assertion `assertion`; GET
/metadata/identity/oauth2/token wants `Metadata: true`; GET /msi/token wants
`X-IDENTITY-HEADER: header`.  The first N requests are refused with 500.
Ends with its standard input.
"""

import argparse
import http.server
import json
import sys
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        is_good = query.get("resource") == "https://storage.azure.com/" and (
            (url.path == "/metadata/identity/oauth2/token"
             and self.headers["Metadata"] == "true" and query["api-version"] == "2018-02-01")
            or (url.path == "/msi/token" and self.headers["X-IDENTITY-HEADER"] == "header"
                and query["api-version"] == "2019-08-01"))
        # As these endpoints do, with numbers in strings.
        self.answer(is_good, lambda lifetime: {"expires_in": str(lifetime)})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        is_good = (
            self.path == "/tenant/oauth2/v2.0/token"
            and form.get("grant_type") == "client_credentials"
            and form.get("client_id") == "client"
            and form.get("scope") == "https://storage.azure.com/.default"
            and (form.get("client_secret") == "secret"
                 or (form.get("client_assertion") == "assertion"
                     and form.get("client_assertion_type")
                     == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")))
        self.answer(is_good, lambda lifetime: {"expires_in": lifetime})

    def answer(self, is_good, expiry):
        server = self.server
        server.count += 1
        if server.count <= server.args.refuse:
            self.send(500, {"error": "temporarily_unavailable"})
        elif not is_good:
            self.send(400, {"error": "invalid_client", "error_description": "AADSTS7000215: no"})
        else:
            token = f"TOKEN-{server.count}"
            with open(server.args.token_file, "w", encoding="ascii") as file:
                file.write(token)
            self.send(200, {"token_type": "Bearer", "access_token": token,
                            **expiry(server.args.lifetime)})

    def send(self, status, fields):
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--token-file", required=True)
    parser.add_argument("--lifetime", type=int, default=3600)
    parser.add_argument("--refuse", type=int, default=0)
    args = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.args = args
    server.count = 0
    print(f"URL http://127.0.0.1:{server.server_address[1]}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
