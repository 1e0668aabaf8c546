#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz doctor: healthy against dz serve, and each illness by its name."""
import email.utils
import http.server
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time

import libblob


def doctor(url, container="data", limits=None, **env):
    with tempfile.TemporaryDirectory(prefix="doctor.") as top:
        full = dict(os.environ, DELTAZERO_SHM_DIR=os.path.join(top, "shm"),
                    DELTAZERO_CACHE_DIR=os.path.join(top, "cache"), DELTAZERO_DRAM_SIZE="64M",
                    DELTAZERO_DISK_SIZE="64M", AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT,
                    AZURE_STORAGE_KEY=libblob.KEY)
        full.pop("LD_PRELOAD", None)
        if url:
            full["DELTAZERO_MOUNT"] = f"/mnt/dz-test={url}" + (f"/{container}" if container else "")
        full.update(env)
        full = {k: v for k, v in full.items() if v is not None}
        done = subprocess.run([libblob.dz(), "doctor", "--json"], env=full, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, preexec_fn=limits)
        assert libblob.KEY not in done.stdout + done.stderr
        assert os.listdir(top) in ([], ["shm"], ["cache"]), os.listdir(top)
        answer = json.loads(done.stdout)
        assert done.returncode == (answer["result"] == "fail"), done
        for f in answer["findings"]:
            assert f["result"] == "ok" or f["advice"], f
        return answer


def found(answer, check, result=None):
    texts = [f["found"] for f in answer["findings"]
             if f["check"] == check and (result is None or f["result"] == result)]
    assert texts, (check, result, answer)
    return " ".join(texts)


@libblob.test
def a_fit_node_has_no_failure(server):
    answer = doctor(server.url)
    assert answer["result"] in ("ok", "warn"), answer
    for check in "library kernel io_uring nofile container shm disk mount dns connection clock list".split():
        found(answer, check)
    assert "account key" in found(answer, "credentials", "ok")
    assert "1 entries" in found(answer, "list", "ok")
    assert "64 MiB" in found(answer, "dram size")
    assert "/s" in found(answer, "disk")


@libblob.test
def without_a_mount_the_node_is_examined_still(server):
    assert doctor(None)["result"] == "warn"
    answer = doctor(None, DELTAZERO_MOUNT="nonsense")
    assert "nonsense" in found(answer, "config", "fail")


@libblob.test
def a_sas_is_told_by_its_end_and_not_by_its_signature(server):
    def sas(**fields):
        token = server.client.account_sas(**fields)
        answer = doctor(server.url, AZURE_STORAGE_KEY=None, AZURE_STORAGE_SAS_TOKEN=token)
        assert token.split("sig=")[1][:20] not in json.dumps(answer)
        return answer
    assert "2099" in found(sas(se="2099-01-01T00:00:00Z"), "credentials", "ok")
    assert "in 1.0 hours" in found(sas(), "credentials", "warn")
    assert "ended at" in found(sas(se=libblob.utc(-60)), "credentials", "fail")
    assert "begins at" in found(sas(st=libblob.utc(3000)), "credentials", "fail")
    assert "without r and l" in found(sas(sp="r", se="2099-01-01T00:00:00Z"), "credentials", "fail")


@libblob.test
def a_wrong_key_and_a_wrong_container_fail_the_list(server):
    answer = doctor(server.url, AZURE_STORAGE_KEY="AAAA" * 20 + "AAAAAAA=")
    assert answer["result"] == "fail" and found(answer, "list", "fail")
    answer = doctor(server.url, container="none")
    advice = [f["advice"] for f in answer["findings"] if f["check"] == "list"]
    assert "container's name" in advice[0], answer
    answer = doctor(server.url, AZURE_STORAGE_KEY="no base64!")
    assert "not base64" in found(answer, "credentials", "fail")


@libblob.test
def nobody_at_the_address_and_no_address(server):
    assert found(doctor("http://127.0.0.1:1/acct"), "connection", "fail")
    # .invalid never has an address.
    assert "acct.blob.invalid" in found(doctor("http://acct.blob.invalid/acct"), "dns", "fail")


@libblob.test
def clocks_that_differ(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(403)
            self.send_header("Date", email.utils.formatdate(time.time() + self.server.skew, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for skew, result in ((-300, "warn"), (3600, "fail")):
            other.skew = skew
            text = found(doctor(f"http://127.0.0.1:{other.server_port}/acct"), "clock", result)
            assert abs(int(text.split()[0]) - abs(skew)) < 10, text
        other.shutdown()


@libblob.test
def directories_that_are_too_small_or_closed(server):
    assert "wants 900 TiB" in found(doctor(server.url, DELTAZERO_DRAM_SIZE="921600G"), "shm", "warn")
    assert found(doctor(server.url, DELTAZERO_SHM_DIR="/proc/none"), "shm", "fail")
    assert found(doctor(server.url, DELTAZERO_CACHE_DIR="/proc/none"), "disk", "warn")
    assert "none" in found(doctor(server.url, DELTAZERO_DISK_SIZE="0"), "disk size", "ok")


@libblob.test
def limits_of_the_process(server):
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 29, 1 << 29))
    answer = doctor(server.url, limits=few)
    assert found(answer, "nofile", "warn").startswith("200 ")
    assert "512 MiB" in found(answer, "fsize", "warn")


@libblob.test
def libraries_that_are_preloaded_too(server):
    with tempfile.TemporaryDirectory() as top:
        source = os.path.join(top, "x.c")
        with open(source, "w") as f:
            f.write("#include <fcntl.h>\nint open(const char *p, int f, ...) { return openat(AT_FDCWD, p, f, 0600); }")
        other = os.path.join(top, "libother.so")
        if subprocess.run(["gcc", "-shared", "-fPIC", "-o", other, source]).returncode:
            raise libblob.Skip("no gcc")
        answer = doctor(None, LD_PRELOAD="/no/such/lib.so")
        assert "is not there" in found(answer, "preload", "warn")
        assert "takes calls on files too" in found(doctor(None, LD_PRELOAD=other), "preload", "warn")


@libblob.test
def a_cache_that_is_there_is_described_as_it_is(server):
    with tempfile.TemporaryDirectory() as top:
        env = dict(DELTAZERO_SHM_DIR=os.path.join(top, "shm"), DELTAZERO_CACHE_DIR=os.path.join(top, "cache"))
        full = dict(os.environ, **env, DELTAZERO_MOUNT=f"/mnt/dz-test={server.url}/data",
                    DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="64M",
                    AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY)
        try:
            assert subprocess.run([libblob.dz(), "ls", "/mnt/dz-test"], env=full,
                                  stdout=subprocess.DEVNULL).returncode == 0
            answer = doctor(server.url, **env, DELTAZERO_DRAM_SIZE="128M")
            text = found(answer, "cache")
            stat = json.loads(subprocess.run([libblob.dz(), "stat", "--json"], env=full,
                                             stdout=subprocess.PIPE).stdout)
            dram, disk = stat["dram"]["size"] >> 20, stat["disk"]["size"] >> 20
            assert f"DRAM tier {dram} MiB" in text and f"disk tier {disk} MiB" in text, text
        finally:
            subprocess.run([libblob.dz(), "purge", "--disk"], env=full)


with libblob.serve() as served:
    served.write("data/a.txt", b"hello")
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), served)
