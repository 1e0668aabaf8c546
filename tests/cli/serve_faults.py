#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each action of a fault script, seen by a client that reads the raw socket."""

import email.utils
import socket
import sys
import time

from libblob import Client, eventually, least_seconds, run_tests, serve, test, tests_of

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes


class Raw:
    """One GET on a new connection, read until its end, with how it ended."""

    def __init__(self, s, name="data/x", timeout=5, **headers):
        client = Client(s.url)
        path = client.path(name)
        send = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02",
                **{k.replace("_", "-"): v for k, v in headers.items()}}
        send["Authorization"] = client.authorization("GET", path, {}, send)
        send["Connection"] = "close"
        text = "".join(f"{k}: {v}\r\n" for k, v in send.items())
        self.bytes, self.end = b"", "fin"
        with socket.create_connection(("127.0.0.1", s.port()), timeout=timeout) as c:
            c.sendall(f"GET {path} HTTP/1.1\r\n{text}\r\n".encode())
            try:
                while chunk := c.recv(1 << 20):
                    self.bytes += chunk
            except ConnectionResetError:
                self.end = "rst"
            except TimeoutError:
                self.end = "silence"
        head, _, self.body = self.bytes.partition(b"\r\n\r\n")
        self.head = head.decode()

    def length(self):
        return int(self.head.split("Content-Length: ")[1].split("\r")[0])


def _serve(rules):
    class Context:
        def __enter__(self):
            self.context = serve(faults=rules)
            self.s = self.context.__enter__()
            self.s.write("data/x", BODY)
            self.s.write("data/y", b"y")
            return self.s

        def __exit__(self, *exc):
            return self.context.__exit__(*exc)

    return Context()


@test
def status_answers_with_the_code_and_retry_after():
    with _serve("match=/data/x op=get nth=2 count=2 action=status:503 retry-after=7\n") as s:
        got = [s.client.get("data/x") for _ in range(4)]
        assert [g.status for g in got] == [200, 503, 503, 200]
        assert (got[1].code, got[1]["Retry-After"]) == ("ServerBusy", "7")
        assert got[1].xml().findtext("Code") == "ServerBusy"
        eventually(lambda: len(s.log()) == 4)
        assert [e["fault"] for e in s.log()] == [0, 1, 1, 0]


@test
def a_code_and_milliseconds_can_be_given():
    with _serve("action=status:429 retry-after-ms=250 code=Throttled count=1") as s:
        got = s.client.get("data/x")
        assert (got.status, got.code, got["x-ms-retry-after-ms"]) == (429, "Throttled", "250")
        assert s.client.get("data/x").status == 200


@test
def every_spreads_a_fault_over_the_requests():
    with _serve("every=3 nth=2 action=status:500") as s:
        got = [s.client.get("data/y").status for _ in range(9)]
        assert got == [200, 500, 200, 200, 500, 200, 200, 500, 200]


@test
def op_and_glob_choose_the_requests():
    with _serve("match=*/y op=head,list action=status:500") as s:
        assert s.client.get("data/y").status == 200
        assert s.client.head("data/x").status == 200
        assert s.client.head("data/y").status == 500


@test
def delay_answers_later():
    with _serve("match=/data/y nth=2 count=1 action=delay:200") as s:
        s.client.get("data/y")
        start = time.monotonic()
        assert s.client.get("data/y").body == b"y"
        assert time.monotonic() - start >= 0.2
        s.client.get("data/y")
        eventually(lambda: len(s.log()) == 3)
        assert [entry["fault"] for entry in s.log()] == [0, 1, 0], s.log()


@test
def reset_sends_the_bytes_then_rst():
    for at in (0, 1000, 700000):
        with _serve(f"action=reset:{at}") as s:
            got = Raw(s)
            assert (got.end, len(got.body), got.length()) == ("rst", at, len(BODY)), got.end
            assert got.body == BODY[:at]
            eventually(lambda: s.log())
            assert s.log()[0]["bytes"] == at


@test
def short_ends_the_body_early_and_cleanly():
    with _serve("action=short:100000") as s:
        got = Raw(s)
        assert (got.end, len(got.body), got.length()) == ("fin", 100000, len(BODY))


@test
def truncate_is_a_complete_answer_with_less_than_the_range():
    with _serve("action=truncate:10") as s:
        got = s.client.get("data/x", x_ms_range="bytes=0-99")
        assert (got.status, got.body) == (206, BODY[:10])
        assert got["Content-Range"] == f"bytes 0-99/{len(BODY)}"


@test
def long_sends_bytes_after_the_end():
    with _serve("action=long:5000") as s:
        got = Raw(s)
        assert got.length() == len(BODY) and got.body == BODY + bytes(5000)


@test
def range_wrong_is_one_byte_off():
    with _serve("action=range-wrong count=1") as s:
        got = s.client.get("data/x", x_ms_range="bytes=10-19")
        assert got["Content-Range"] == f"bytes 11-20/{len(BODY)}" and got.body == BODY[10:20]
        got = s.client.get("data/x", x_ms_range="bytes=10-19")
        assert got["Content-Range"] == f"bytes 10-19/{len(BODY)}"


@test
def range_ignored_is_200_and_everything():
    with _serve("action=range-ignored") as s:
        got = s.client.get("data/x", x_ms_range="bytes=10-19")
        assert (got.status, got["Content-Range"], got.body) == (200, None, BODY)


@test
def etag_change_holds_from_the_nth_request_on():
    with _serve("match=/data/x op=get nth=2 action=etag-change") as s:
        old = s.client.get("data/x")["ETag"]
        got = s.client.get("data/x", if_match=old)
        assert (got.status, got.code) == (412, "ConditionNotMet")
        new = s.client.get("data/x")["ETag"]
        assert new != old and s.client.get("data/x", if_match=new).status == 200
        blob = s.client.list("data", prefix="x").xml().find("Blobs/Blob")
        assert blob.findtext("Properties/Etag") == new.strip('"')
        assert s.client.head("data/x")["ETag"] == new


@test
def empty_page_has_a_marker_to_go_on_from():
    with _serve("op=list nth=2 count=2 action=empty-page") as s:
        for name in "abc":
            s.write(f"pages/{name}", b"1")
        pages = s.client.pages("pages", maxresults=2)
        assert pages == [["a", "b"], [], [], ["c"]]
    with _serve("op=list count=1 action=empty-page") as s:
        assert s.client.pages("data") == [[], ["x", "y"]]


@test
def auth_expired_refuses_a_number_of_requests():
    with _serve("nth=2 count=2 action=auth-expired") as s:
        got = [s.client.get("data/y") for _ in range(3)]
        got.append(s.client.request("GET", "data/y", authorization="Bearer t"))
        assert [g.status for g in got] == [200, 403, 403, 401]
        assert got[1].code == "AuthenticationFailed"
    with _serve("action=auth-expired count=1") as s:
        assert s.client.request("GET", "data/y", authorization="Bearer t").status == 401


@test
def drip_sends_at_the_rate():
    with _serve("action=drip:2000000") as s:
        bodies = []
        took = least_seconds(lambda: bodies.append(Raw(s).body), 0.8)
        assert 0.4 < took < 0.8 and set(bodies) == {BODY}, took


@test
def close_answers_nothing():
    with _serve("action=close") as s:
        got = Raw(s)
        assert (got.bytes, got.end) == (b"", "fin")


@test
def stall_never_answers_and_frees_the_connection_when_the_client_leaves():
    with _serve("action=stall") as s:
        got = Raw(s, timeout=0.5)
        assert (got.bytes, got.end) == (b"", "silence")
        eventually(lambda: s.log())


@test
def lost_does_the_work_and_closes():
    with _serve("op=put count=1 action=lost") as s:
        path = s.client.path("data/lost")
        try:
            s.client.conn = None
            headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02",
                       "x-ms-blob-type": "BlockBlob", "Content-Length": "4"}
            headers["Authorization"] = s.client.authorization("PUT", path, {}, headers)
            s.client.send("PUT", path, headers, b"done")
            raise AssertionError("an answer came")
        except OSError:
            pass
        assert s.client.get("data/lost").body == b"done"


@test
def several_rules_act_together():
    rules = "action=delay:100\nmatch=*/x action=drip:10000000 # together\n\n# comment\n"
    with _serve(rules) as s:
        start = time.monotonic()
        assert s.client.get("data/x").body == BODY
        assert time.monotonic() - start >= 0.18


if __name__ == "__main__":
    run_tests(tests_of(sys.modules[__name__]))
