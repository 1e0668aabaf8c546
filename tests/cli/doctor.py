#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz doctor: healthy against dz serve, and each illness by its name."""
import contextlib
import email.utils
import http.server
import json
import os
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import libblob


def doctor(url, container="data", limits=None, wrapper=(), **env):
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
        done = subprocess.run([*wrapper, libblob.dz(), "doctor", "--json"], env=full, stdout=subprocess.PIPE,
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
    class Handler(Polite):
        pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for skew, result in ((-300, "warn"), (3600, "fail")):
            Handler.skew = skew
            text = found(doctor(f"http://127.0.0.1:{other.server_port}/acct"), "clock", result)
            assert abs(int(text.split()[0]) - abs(skew)) < 10, text
        other.shutdown()


class Polite(http.server.BaseHTTPRequestHandler):
    """Says when it is, and no more."""
    skew = 0

    def do_GET(self):
        self.send_response_only(403)
        self.send_header("Date", email.utils.formatdate(time.time() + self.skew, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@libblob.test
def a_certificate_that_does_not_verify_and_one_that_does(server):
    if not shutil.which("openssl"):
        raise libblob.Skip("no openssl")
    with tempfile.TemporaryDirectory() as top, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Polite) as other:
        cert, key = os.path.join(top, "cert.pem"), os.path.join(top, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
                        "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                       check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        other.socket = context.wrap_socket(other.socket, server_side=True)
        other.handle_error = lambda *_: None
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{other.server_port}/acct"
        bundles = dict.fromkeys(("AZURE_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))
        assert "does not verify" in found(doctor(url, **bundles), "tls", "fail")
        # As the library does, it believes whom the environment says.
        for name in bundles:
            answer = doctor(url, **{**bundles, name: cert})
            assert "certificate verifies" in found(answer, "tls", "ok"), name
        other.shutdown()


CGROUPS = "/sys/fs/cgroup"
# Where the limits of memory and of processes are, of version 2 and of version 1.
LIMITS = ([(CGROUPS, "memory.max"), (CGROUPS, "pids.max")] if os.path.exists(CGROUPS + "/cgroup.controllers") else
          [(CGROUPS + "/memory", "memory.limit_in_bytes"), (CGROUPS + "/pids", "pids.max")])


@libblob.test
def a_container_is_told_by_its_marks(server):
    text = found(doctor(None, KUBERNETES_SERVICE_HOST=None), "container")
    assert text.startswith("a Docker") == os.path.exists("/.dockerenv"), text
    assert "Kubernetes" in found(doctor(None, KUBERNETES_SERVICE_HOST="10.0.0.1"), "container")


@libblob.test
def the_limits_of_the_control_group(server):
    groups = [os.path.join(top, f"dz-test-{os.getpid()}") for top, _ in LIMITS]
    if not all(os.path.exists(f"{top}/cgroup.procs") for top, _ in LIMITS):
        raise libblob.Skip("no control groups")

    def join():
        for group in groups:
            with open(group + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
    with contextlib.ExitStack() as stack:
        try:
            for group, (_, name), limit in zip(groups, LIMITS, (256 << 20, 77)):
                if not os.path.isdir(group):
                    os.mkdir(group)
                    stack.callback(os.rmdir, group)
                with open(f"{group}/{name}", "r+") as f:
                    f.write(str(limit))
        except OSError as e:
            raise libblob.Skip(f"no control group may be made: {e.strerror}") from None
        answer = doctor(None, limits=join, DELTAZERO_DRAM_SIZE=None)
        assert "memory limit 256 MiB, process limit 77" in found(answer, "container", "warn"), answer
        assert "that the container may use" in found(answer, "dram size"), answer


@libblob.test
def a_kernel_or_a_profile_without_io_uring(server):
    assert found(doctor(None), "io_uring")
    deny = [sys.executable, os.path.join(os.environ["DZ_TOP"], "tests", "apps", "libseccomp.py"), "425"]
    assert "not to be had" in found(doctor(None, wrapper=deny), "io_uring", "warn")


@libblob.test
def huge_pages_are_told_of_memory_and_not_of_disks(server):
    if not os.access("/dev/shm", os.W_OK):
        raise libblob.Skip("no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        line = next(line for line in open("/proc/mounts") if line.split()[1] == "/dev/shm")
        setting = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
        is_forced = os.path.exists(setting) and "[force" in open(setting).read()
        is_huge = any(f"huge={how}" in line for how in ("always", "advise", "within_size")) or is_forced
        text = found(doctor(None, DELTAZERO_SHM_DIR=shm), "hugepages", "ok" if is_huge else "warn")
        assert ("pages of 2 MiB" in text) == is_huge and ("4 KiB pages" in text) != is_huge, (line, text)


@libblob.test
def what_was_chosen_is_said_with_its_reason(server):
    answer = doctor(server.url, DELTAZERO_DRAM_SIZE=None, DELTAZERO_DISK_SIZE=None)
    assert "would be " in found(answer, "dram size") and "a quarter of " in found(answer, "dram size"), answer
    assert "a quarter of what is free there" in found(answer, "disk size"), answer
    answer = doctor(server.url)
    assert "as DELTAZERO_DRAM_SIZE says" in found(answer, "dram size")
    assert "64 MiB: as DELTAZERO_DISK_SIZE says" in found(answer, "disk size"), answer


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
