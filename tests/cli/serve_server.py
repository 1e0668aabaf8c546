#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What dz serve promises beyond the protocol: files are blobs, the log, the
clock, tokens, keep-alive, and the answers in which Azurite differs from Blob.
"""

import email.utils
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from libblob import ACCOUNT, KEY, Client, dz, eventually, least_seconds, run_tests, serve, test, tests_of, utc


# ---- files ----

@test
def a_file_put_into_a_folder_is_a_blob_at_once(s):
    s.write("data/new/file", b"content")
    assert s.client.get("data/new/file").body == b"content"
    assert "new/file" in s.client.names("data", prefix="new/")


@test
def a_put_blob_is_a_file_below_the_root(s):
    s.client.put("data/p/q", b"stored")
    with open(os.path.join(s.root, "data/p/q"), "rb") as f:
        assert f.read() == b"stored"


@test
def the_etag_is_stable_until_the_file_changes(s):
    s.write("data/etag", b"one")
    first = s.client.head("data/etag")["ETag"]
    assert s.client.head("data/etag")["ETag"] == first
    time.sleep(0.02)
    s.write("data/etag", b"two")
    second = s.client.head("data/etag")["ETag"]
    assert second != first
    assert s.client.get("data/etag", if_match=first).status == 412


@test
def properties_of_an_older_file_do_not_stick(s):
    s.client.put("data/props", b"one", x_ms_blob_content_type="text/plain")
    assert s.client.head("data/props")["Content-Type"] == "text/plain"
    time.sleep(0.02)
    s.write("data/props", b"other")
    head = s.client.head("data/props")
    assert (head["Content-Type"], head["Content-MD5"]) == ("application/octet-stream", None)


@test
def empty_directories_are_no_prefixes(s):
    os.makedirs(os.path.join(s.root, "data/hollow/deep"))
    assert s.client.names("data", prefix="hollow", delimiter="/") == []
    s.write("data/hollow/deep/file", b"1")
    assert s.client.names("data", prefix="hollow", delimiter="/") == [("prefix", "hollow/")]


@test
def prefixes_stand_in_order_between_the_blobs(s):
    for name in ("a", "b/x", "b-", "b0", "c"):
        s.write(f"order/{name}", b"1")
    assert s.client.names("order", delimiter="/") == ["a", "b-", ("prefix", "b/"), "b0", "c"]
    assert s.client.names("order") == ["a", "b-", "b/x", "b0", "c"]


@test
def no_path_leaves_the_container(s):
    with open(os.path.join(s.root, "outside"), "wb") as f:
        f.write(b"outside")
    s.write("data/in", b"1")
    for path in ("/data/../outside", "/data/%2e%2e/outside", "/data/x/../../outside",
                 "/data//in", "/data/./in", "/.dz-serve/props/x", "/../outside"):
        path = s.client.base + path
        headers = {"x-ms-version": "2021-12-02", "x-ms-date": email.utils.formatdate(usegmt=True)}
        headers["Authorization"] = s.client.authorization("GET", path, {}, headers)
        got = s.client.send("GET", path, headers)
        assert got.status in (400, 404), (path, got.status)
        assert b"outside" not in got.body
        headers["x-ms-blob-type"] = "BlockBlob"
        headers["Content-Length"] = "1"
        headers["Authorization"] = s.client.authorization("PUT", path, {}, headers)
        assert s.client.send("PUT", path, headers, b"x").status in (400, 404), path


@test
def names_that_xml_cannot_hold_are_encoded(s):
    s.write("odd/one\x01two", b"1")
    s.write(b"odd/latin-\xe9", b"2")
    s.write("odd/cr\rlf\n", b"3")
    body = s.client.list("odd").body
    assert b'<Name Encoded="true">one%01two</Name>' in body
    assert b'<Name Encoded="true">latin-%E9</Name>' in body
    assert s.client.get("odd/one\x01two").body == b"1"
    assert "cr\rlf\n" in s.client.names("odd")


@test
def a_file_cannot_be_a_folder_too_and_says_so(s):
    s.client.put("data/conflict", b"1")
    got = s.client.put("data/conflict/below", b"2")
    assert (got.status, got.code) == (409, "PathConflict")
    assert s.client.get("data/conflict").body == b"1"


@test
def pages_of_a_large_folder_are_cheap(s):
    folder = os.path.join(s.root, "large/train")
    os.makedirs(folder)
    for i in range(6000):
        os.close(os.open(os.path.join(folder, f"{i:06d}"), os.O_CREAT | os.O_WRONLY))
    time.sleep(0.1)  # until the directory's time has settled
    first = s.client.list("large", prefix="train/", maxresults=10)

    def pages():
        marker = first.xml().findtext("NextMarker")
        for _ in range(50):
            page = s.client.list("large", prefix="train/", maxresults=10, marker=marker)
            marker = page.xml().findtext("NextMarker")
    took = least_seconds(pages, 1)
    assert took < 1, f"50 pages of 10 took {took:.3f} s"
    names = [n for p in s.client.pages("large", prefix="train/", delimiter="/") for n in p]
    assert names == [f"train/{i:06d}" for i in range(6000)]
    os.unlink(os.path.join(folder, "000000"))
    assert s.client.names("large", prefix="train/", maxresults=1) == ["train/000001"]
    shutil.rmtree(folder)


# ---- answers in which Azurite differs ----

@test
def a_range_that_begins_at_the_end_is_416(s):
    s.write("data/ten", b"0123456789")
    assert s.client.get("data/ten", x_ms_range="bytes=10-").status == 416
    for form in ("bytes=-2", "bytes=5-2", "bytes=0-1,3-4", "junk"):
        assert s.client.get("data/ten", x_ms_range=form).status == 416, form


@test
def bad_signatures_are_authentication_failed_and_say_what_was_signed(s):
    other = Client(s.url, ACCOUNT, KEY.replace("b", "c"))
    got = other.get("data/ten")
    assert (got.status, got.code) == (403, "AuthenticationFailed")
    detail = got.xml().findtext("AuthenticationErrorDetail")
    assert "/devstoreaccount1/devstoreaccount1/data/ten" in detail
    got = s.client.request("GET", "data/ten", sas=s.client.service_sas("data", "ten", se=utc(-5)))
    assert (got.status, got.code) == (403, "AuthenticationFailed")
    assert Client(s.url, "other").get("data/ten").code == "AuthenticationFailed"


@test
def a_wrong_md5_is_md5_mismatch(s):
    got = s.client.put("data/md5", b"data", content_md5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert (got.status, got.code) == (400, "Md5Mismatch")


@test
def a_clock_15_minutes_off_is_refused(s):
    s.write("data/clock", b"1")
    for skew, status in ((-1000, 403), (1000, 403), (-800, 200), (800, 200)):
        date = email.utils.formatdate(time.time() + skew, usegmt=True)
        got = s.client.get("data/clock", x_ms_date=date)
        assert got.status == status, (skew, got.status)
    assert s.client.get("data/clock", x_ms_date="yesterday").status == 403


@test
def a_range_md5_of_more_than_4_mib_is_400(s):
    s.write("data/five", bytes(5 << 20))
    got = s.client.get("data/five", x_ms_range="bytes=0-5000000", x_ms_range_get_content_md5="true")
    assert got.status == 400


@test
def a_request_without_credentials_is_401(s):
    s.write("data/closed", b"1")
    got = s.client.request("GET", "data/closed", auth=False)
    assert (got.status, got.code) == (401, "NoAuthenticationInformation")
    assert got["WWW-Authenticate"].startswith("Bearer ")


# ---- HTTP ----

def _raw(s, data, timeout=5):
    with socket.create_connection(("127.0.0.1", s.port()), timeout=timeout) as c:
        c.sendall(data)
        out = b""
        while chunk := c.recv(65536):
            out += chunk
        return out


@test
def requests_may_arrive_in_pieces_or_together(s):
    head = b"GET /devstoreaccount1/x HTTP/1.1\r\nHost: h\r\n\r\n"
    last = b"GET /devstoreaccount1/x HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert _raw(s, head * 5 + last).count(b"HTTP/1.1 401") == 6
    with socket.create_connection(("127.0.0.1", s.port()), timeout=5) as c:
        for byte in head:
            c.sendall(bytes([byte]))
        assert c.recv(65536).startswith(b"HTTP/1.1 401")


@test
def what_is_not_http_is_400_and_the_end(s):
    for junk in (b"hello\r\n\r\n", b"GET x HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
                 b"GET /a/%zz HTTP/1.1\r\n\r\n", b"GET /a/%00 HTTP/1.1\r\n\r\n",
                 b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"x" * 70000):
        got = _raw(s, junk)
        assert got.startswith(b"HTTP/1.1 400") and b"Retry-After" not in got, junk[:40]


@test
def a_refused_upload_leaves_the_connection_usable(s):
    conn = s.client
    conn.get("data/none")
    before = conn.conn.sock.getsockname()
    got = conn.request("PUT", "data/refused", headers={"x-ms-blob-type": "BlockBlob"},
                       body=bytes(3 << 20), authorization="SharedKey devstoreaccount1:AAAA")
    assert got.status == 403
    assert conn.get("data/none").status == 404
    assert conn.conn.sock.getsockname() == before


@test
def curl_uploads_with_expect_100(s):
    if not shutil.which("curl"):
        return
    s.write("data/.keep", b"")
    with serve("--anonymous") as open_:
        path = os.path.join(open_.root, "big")
        with open(path, "wb") as f:
            f.write(os.urandom(3 << 20))
        subprocess.run(["curl", "-sf", "-H", "x-ms-blob-type: BlockBlob", "-T", path,
                        open_.url + "/data/big"], check=True)
        with open(path, "rb") as a, open(os.path.join(open_.root, "data/big"), "rb") as b:
            assert a.read() == b.read()


@test
def many_connections_at_once_get_their_own_bytes(s):
    for i in range(8):
        s.write(f"data/many/{i}", bytes([i]) * 3_000_000)
    wrong = []

    def read(i):
        client = Client(s.url)
        for _ in range(5):
            if client.get(f"data/many/{i}").body != bytes([i]) * 3_000_000:
                wrong.append(i)
        client.close()

    threads = [threading.Thread(target=read, args=(i % 8,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---- the log ----

@test
def the_log_has_one_object_a_request(s):
    s.write("data/logged", b"0123456789")
    before = len(s.log())
    s.client.get("data/logged", x_ms_range="bytes=2-5")
    s.client.request("GET", "data/logged", sas=s.client.service_sas("data", "logged"))
    s.client.head("data/missing")
    eventually(lambda: len(s.log()) == before + 3)
    ranged, by_sas, missing = s.log()[before:]
    assert ranged["method"] == "GET" and ranged["path"].endswith("/data/logged")
    assert (ranged["status"], ranged["bytes"], ranged["range"]) == (206, 4, "bytes=2-5")
    assert ranged["conn"] == by_sas["conn"] and ranged["ms"] >= 0
    assert abs(ranged["time"] - time.time()) < 60
    assert "sig=REDACTED" in by_sas["query"] and by_sas["bytes"] == 10
    assert (missing["status"], missing["bytes"], missing["error"]) == (404, 0, "BlobNotFound")


@test
def the_log_counts_what_was_sent_when_the_client_leaves(s):
    s.write("data/left", bytes(50 << 20))
    client = Client(s.url)
    path = client.path("data/left")
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    auth = client.authorization("GET", path, {}, headers)
    with socket.create_connection(("127.0.0.1", s.port())) as c:
        lines = "".join(f"{k}: {v}\r\n" for k, v in {**headers, "Authorization": auth}.items())
        c.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        c.recv(1000)
    eventually(lambda: any(e["path"] == path for e in s.log()))
    entry = next(e for e in s.log() if e["path"] == path)
    assert 0 < entry["bytes"] < 50 << 20


# ---- options, each with a server of its own ----

@test
def latency_delays_every_answer(_):
    with serve("--latency", "50", "--anonymous") as s:
        s.write("data/x", b"1")
        s.client.get("data/x")
        answers = []
        took = least_seconds(lambda: answers.extend(s.client.get("data/x").status for _ in range(4)), 0.4)
        assert 0.2 <= took < 0.4 and set(answers) == {200}, took


@test
def anonymous_requests_are_served_and_bad_credentials_still_refused(_):
    with serve("--anonymous") as s:
        s.write("data/x", b"1")
        assert s.client.request("GET", "data/x", auth=False).status == 200
        assert Client(s.url, ACCOUNT, KEY.replace("b", "c")).get("data/x").status == 403


@test
def account_and_key_come_from_the_environment(_):
    key = "c2VjcmV0"
    for name in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"):
        with serve(env={"AZURE_STORAGE_ACCOUNT": "mine", name: key}) as s:
            s.write("data/x", b"1")
            assert s.url.endswith("/mine")
            assert Client(s.url, "mine", key).get("data/x").status == 200
            assert s.client.get("data/x").status == 403


@test
def a_bearer_token_is_the_one_in_the_file_now(_):
    with tempfile.NamedTemporaryFile("w") as token:
        token.write("first\n")
        token.flush()
        with serve("--token-file", token.name) as s:
            s.write("data/x", b"1")
            get = lambda t: s.client.request("GET", "data/x", authorization=f"Bearer {t}")
            assert get("first").status == 200 and get("second").status == 401
            token.seek(0)
            token.write("second")
            token.truncate()
            token.flush()
            assert get("first").code == "InvalidAuthenticationInfo"
            assert get("second").status == 200


@test
def properties_and_staged_blocks_survive_a_restart(_):
    with tempfile.TemporaryDirectory() as root:
        with serve(root=root) as s:
            s.client.put("data/kept", b"1", x_ms_meta_k="v")
            s.client.block("data/staged", "id-0", b"one")
            etag = s.client.head("data/kept")["ETag"]
        with serve(root=root) as s:
            head = s.client.head("data/kept")
            assert (head["x-ms-meta-k"], head["ETag"]) == ("v", etag)
            assert s.client.commit("data/staged", ["id-0"]).status == 201
            assert s.client.get("data/staged").body == b"one"


@test
def sigterm_ends_it_with_0_in_the_middle_of_answers(_):
    with serve("--latency", "100000") as s:
        s.write("data/x", b"1")
        thread = threading.Thread(target=lambda: _swallow(lambda: s.client.get("data/x")))
        thread.start()
        time.sleep(0.2)
        # Which waits for less time than the answer does.
        assert s.stop() == 0
        thread.join()


def _swallow(call):
    try:
        call()
    except OSError:
        pass


@test
def mistakes_on_the_command_line_are_125_with_one_line(_):
    def fails(*args):
        r = subprocess.run([dz(), "serve", *args], capture_output=True, text=True, timeout=10,
                           env={**os.environ, "AZURE_STORAGE_KEY": ""})
        assert r.returncode == 125 and r.stdout == "", (args, r.returncode)
        return r.stderr

    with tempfile.TemporaryDirectory() as d:
        assert "--root DIR is missing" in fails()
        assert "no such option" in fails("--root", d, "--rot")
        assert "No such file" in fails("--root", d + "/none")
        assert "65536" in fails("--root", d, "--port", "65536")
        rules = os.path.join(d, "rules")
        for rule in ("action=explode", "action=delay", "op=get", "nth=x action=close", "wat",
                     "action=status:99", "action=close:5", "nth=0 action=close"):
            with open(rules, "w") as f:
                f.write(f"# a comment\n{rule}\n")
            assert f"{rules}:2:" in fails("--root", d, "--fault", rules), rule


if __name__ == "__main__":
    with serve() as served:
        run_tests(tests_of(sys.modules[__name__]), served)
