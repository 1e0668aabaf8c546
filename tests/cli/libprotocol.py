# SPDX-License-Identifier: MIT
"""What Blob does, as tests that take a client.  They run against dz serve (here)
and against Azurite (tests/azurite), which nobody here wrote: a test that only one
of them passes shows a mistake in the stand-in, or in our idea of Blob.
"""

import base64
import email.utils
import hashlib
import time

from libblob import ACCOUNT, KEY, Client, test, utc

C = "protocol"
# The service says the first, Azurite the second; tests/cli/serve_server.py has
# the service's own word.
REFUSED = ("AuthenticationFailed", "AuthorizationFailure")


def prepare(client):
    status = client.create(C).status
    assert status in (201, 409), status


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


# ---- reading ----

@test
def a_blob_reads_back_as_it_was_put(client):
    data = bytes(range(256)) * 1000
    put = client.put(f"{C}/whole", data)
    got = client.get(f"{C}/whole")
    assert put.status == 201 and got.status == 200
    assert got.body == data and got["Content-Length"] == str(len(data))
    assert got["ETag"] == put["ETag"] and got["ETag"].startswith('"')
    assert got["x-ms-blob-type"] == "BlockBlob" and got["Last-Modified"] == put["Last-Modified"]
    assert got["x-ms-request-id"] and got["x-ms-version"]
    assert got["Content-MD5"] == md5(data)
    assert got["Accept-Ranges"] == "bytes"


@test
def head_has_the_headers_of_get_and_no_body(client):
    client.put(f"{C}/head", b"12345")
    got, head = client.get(f"{C}/head"), client.head(f"{C}/head")
    assert head.status == 200 and head.body == b""
    for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type", "x-ms-blob-type"):
        assert head[name] == got[name], name


@test
def a_range_is_partial_content(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", x_ms_range="bytes=2-4")
    assert (got.status, got.body) == (206, b"234")
    assert got["Content-Range"] == "bytes 2-4/10" and got["Content-Length"] == "3"


@test
def x_ms_range_wins_over_range(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", range="bytes=0-0", x_ms_range="bytes=5-6")
    assert got.body == b"56"
    assert client.get(f"{C}/range", range="bytes=0-0").body == b"0"


@test
def a_range_past_the_end_is_cut(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", x_ms_range="bytes=8-999999999999")
    assert (got.status, got.body, got["Content-Range"]) == (206, b"89", "bytes 8-9/10")
    got = client.get(f"{C}/range", x_ms_range="bytes=3-")
    assert (got.status, got.body) == (206, b"3456789")


@test
def a_range_behind_the_end_is_416(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", x_ms_range="bytes=11-20")
    assert (got.status, got.code, got["Content-Range"]) == (416, "InvalidRange", "bytes */10")


@test
def any_range_of_an_empty_blob_is_416(client):
    client.put(f"{C}/empty", b"")
    assert client.get(f"{C}/empty", x_ms_range="bytes=0-10").status == 416
    got = client.get(f"{C}/empty")
    assert (got.status, got.body) == (200, b"")


@test
def the_md5_of_a_whole_blob_has_another_name_in_a_range(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", x_ms_range="bytes=2-4")
    assert got["Content-MD5"] is None
    assert got["x-ms-blob-content-md5"] == md5(b"0123456789")


@test
def the_md5_of_a_range_is_given_on_request(client):
    client.put(f"{C}/range", b"0123456789")
    got = client.get(f"{C}/range", x_ms_range="bytes=2-4", x_ms_range_get_content_md5="true")
    assert got["Content-MD5"] == md5(b"234")


@test
def a_missing_blob_is_404_with_a_code_in_xml_and_header(client):
    got = client.get(f"{C}/nothing")
    assert (got.status, got.code) == (404, "BlobNotFound")
    assert got.xml().findtext("Code") == "BlobNotFound"
    head = client.head(f"{C}/nothing")
    assert (head.status, head.body, head.code) == (404, b"", "BlobNotFound")


@test
def a_missing_container_is_404(client):
    assert client.get("no-container/x").code == "ContainerNotFound"
    assert client.list("no-container").code == "ContainerNotFound"
    put = client.put("no-container/x", b"1")
    assert (put.status, put.code) == (404, "ContainerNotFound")


# ---- conditions ----

@test
def if_match_holds_a_read_to_its_etag(client):
    old = client.put(f"{C}/cond", b"one")["ETag"]
    assert client.get(f"{C}/cond", if_match=old).status == 200
    assert client.get(f"{C}/cond", if_match="*").status == 200
    time.sleep(0.01)
    new = client.put(f"{C}/cond", b"two")["ETag"]
    assert new != old
    got = client.get(f"{C}/cond", if_match=old)
    assert (got.status, got.code) == (412, "ConditionNotMet")
    assert client.head(f"{C}/cond", if_match=old).status == 412


@test
def if_none_match_saves_a_read(client):
    etag = client.put(f"{C}/cond", b"one")["ETag"]
    got = client.get(f"{C}/cond", if_none_match=etag)
    assert (got.status, got.body) == (304, b"")
    assert client.get(f"{C}/cond", if_none_match='"0x8000"').status == 200
    assert client.get(f"{C}/cond", if_none_match="*").code == "UnsatisfiableCondition"


@test
def a_second_exclusive_create_is_409(client):
    name = f"{C}/exclusive-{time.time_ns()}"
    assert client.put(name, b"1", if_none_match="*").status == 201
    again = client.put(name, b"2", if_none_match="*")
    assert (again.status, again.code) == (409, "BlobAlreadyExists")
    assert client.get(name).body == b"1"


@test
def if_match_prevents_a_lost_update(client):
    old = client.put(f"{C}/update", b"one")["ETag"]
    time.sleep(0.01)
    assert client.put(f"{C}/update", b"two", if_match=old).status == 201
    late = client.put(f"{C}/update", b"three", if_match=old)
    assert (late.status, late.code) == (412, "ConditionNotMet")
    assert client.get(f"{C}/update").body == b"two"


# ---- listing ----

def _fill(client, container, names):
    client.create(container)
    for name in names:
        assert client.put(f"{container}/{name}", name.encode()).status == 201, name


TREE = ["a", "a-b", "a/b", "a/c/d", "a0", "b/1", "b/2", "c d", "e&<f>", "z+%20"]


@test
def a_flat_list_has_all_names_in_byte_order(client):
    _fill(client, "tree", [n for n in TREE if n != "a"])
    assert client.names("tree") == sorted(n for n in TREE if n != "a")


@test
def a_delimiter_folds_names_into_prefixes_in_order(client):
    _fill(client, "tree", [n for n in TREE if n != "a"])
    got = [e for e in client.names("tree", delimiter="/") if isinstance(e, str)]
    assert got == ["a-b", "a0", "c d", "e&<f>", "z+%20"]
    got = [e[1] for e in client.names("tree", delimiter="/") if not isinstance(e, str)]
    assert got == ["a/", "b/"]


@test
def a_prefix_narrows_the_list(client):
    _fill(client, "tree", [n for n in TREE if n != "a"])
    assert client.names("tree", prefix="a/") == ["a/b", "a/c/d"]
    assert client.names("tree", prefix="a") == ["a-b", "a/b", "a/c/d", "a0"]
    assert client.names("tree", prefix="nothing") == []
    below = client.names("tree", prefix="a/", delimiter="/")
    assert sorted(map(str, below)) == sorted(map(str, ["a/b", ("prefix", "a/c/")]))


@test
def any_string_can_be_the_delimiter(client):
    _fill(client, "tree", [n for n in TREE if n != "a"])
    got = client.names("tree", prefix="a", delimiter="-")
    assert ("prefix", "a-") in got and "a/b" in got and len(got) == 4


@test
def pages_join_to_the_whole_list(client):
    _fill(client, "tree", [n for n in TREE if n != "a"])
    for size in (1, 2, 3, 4, 100):
        pages = client.pages("tree", maxresults=size)
        assert [n for p in pages for n in p] == client.names("tree"), size
        assert all(len(p) <= size for p in pages)
        folded = client.pages("tree", maxresults=size, delimiter="/")
        assert sorted(str(n) for p in folded for n in p) == \
            sorted(map(str, client.names("tree", delimiter="/"))), size


@test
def a_list_entry_agrees_with_head(client):
    _fill(client, "tree", ["a/b"])
    head = client.head("tree/a/b")
    blob = client.list("tree", prefix="a/b").xml().find("Blobs/Blob")
    assert blob.findtext("Properties/Etag") == head["ETag"].strip('"')
    assert blob.findtext("Properties/Last-Modified") == head["Last-Modified"]
    assert blob.findtext("Properties/Content-Length") == head["Content-Length"]
    assert blob.findtext("Properties/Content-Type") == head["Content-Type"]
    assert blob.findtext("Properties/BlobType") == "BlockBlob"


@test
def metadata_is_listed_on_request_only(client):
    client.put(f"{C}/meta", b"1", x_ms_meta_color="blue")
    assert client.head(f"{C}/meta")["x-ms-meta-color"] == "blue"
    plain = client.list(C, prefix="meta").xml().find("Blobs/Blob")
    full = client.list(C, prefix="meta", include="metadata").xml().find("Blobs/Blob")
    assert plain.findtext("Metadata/color") is None
    assert full.findtext("Metadata/color") == "blue"


@test
def a_page_size_out_of_range_is_cut_or_refused(client):
    answer = client.list(C, maxresults=100000)
    assert answer.status == 200
    assert client.list(C, maxresults=0).status == 400


@test
def names_survive_every_escape(client):
    names = ["ü/ö ß", "per%cent", "a+b", "q?x=1&y", "#hash", "quote\"'", "tilde~(1)!$*,;=:@"]
    _fill(client, "names", names)
    assert sorted(client.names("names")) == sorted(names)
    for name in names:
        assert client.get(f"names/{name}").body == name.encode(), name


# ---- writing ----

@test
def blocks_become_a_blob_when_they_are_committed(client):
    name = f"{C}/blocks-{time.time_ns()}"
    assert client.block(name, "id-1", b"world").status == 201
    assert client.block(name, "id-0", b"hello ").status == 201
    assert client.head(name).status == 404
    done = client.commit(name, ["id-0", "id-1"], x_ms_blob_content_type="text/plain")
    assert done.status == 201 and done["ETag"]
    got = client.get(name)
    assert (got.body, got["Content-Type"]) == (b"hello world", "text/plain")


@test
def a_commit_takes_old_and_new_blocks(client):
    name = f"{C}/append-{time.time_ns()}"
    client.block(name, "id-0", b"one ")
    client.commit(name, ["id-0"])
    client.block(name, "id-1", b"two")
    assert client.commit(name, ["id-0", "id-1", "id-0"]).status == 201
    assert client.get(name).body == b"one twoone "
    listed = client.request("GET", name, {"comp": "blocklist", "blocklisttype": "all"}).xml()
    sizes = [b.findtext("Size") for b in listed.find("CommittedBlocks")]
    assert sizes == ["4", "3", "4"], sizes
    assert client.commit(name, ["id-1", "id-0"], "Committed").status == 201
    assert client.get(name).body == b"twoone "


@test
def an_unknown_block_refuses_the_commit(client):
    name = f"{C}/unknown-{time.time_ns()}"
    client.block(name, "id-0", b"x")
    got = client.commit(name, ["id-0", "id-9"])
    assert (got.status, got.code) == (400, "InvalidBlockList")
    assert client.head(name).status == 404


@test
def block_ids_of_a_blob_have_one_length(client):
    name = f"{C}/ids-{time.time_ns()}"
    client.block(name, "id-0", b"x")
    got = client.block(name, "longer-id", b"y")
    assert (got.status, got.code) == (400, "InvalidBlobOrBlock")


@test
def staged_blocks_are_listed_as_uncommitted(client):
    name = f"{C}/staged-{time.time_ns()}"
    client.block(name, "id-0", b"four")
    listed = client.request("GET", name, {"comp": "blocklist", "blocklisttype": "all"})
    assert listed.status == 200
    block = listed.xml().find("UncommittedBlocks/Block")
    assert (block.findtext("Name"), block.findtext("Size")) == ("aWQtMA==", "4")


@test
def a_wrong_md5_refuses_the_body(client):
    got = client.put(f"{C}/md5", b"data", content_md5=md5(b"other"))
    # The service says the first, Azurite before 3.37 the second.
    assert (got.status, got.code in ("Md5Mismatch", "InvalidOperation")) == (400, True), got.code
    assert client.put(f"{C}/md5", b"data", content_md5=md5(b"data")).status == 201


@test
def a_copy_has_the_bytes_and_its_own_etag(client):
    client.put(f"{C}/source", b"copied", x_ms_meta_k="v")
    url = f"http://{client.netloc}{client.path(C + '/source')}"
    done = client.request("PUT", f"{C}/target", headers={"x-ms-copy-source": url})
    assert (done.status, done["x-ms-copy-status"]) == (202, "success")
    got = client.get(f"{C}/target")
    assert got.body == b"copied" and got["x-ms-meta-k"] == "v"


@test
def a_copy_of_nothing_is_404(client):
    url = f"http://{client.netloc}{client.path(C + '/no-source')}"
    assert client.request("PUT", f"{C}/target", headers={"x-ms-copy-source": url}).status == 404


@test
def a_deleted_blob_is_gone(client):
    client.put(f"{C}/dir/gone", b"1")
    assert client.delete(f"{C}/dir/gone").status == 202
    assert client.delete(f"{C}/dir/gone").code == "BlobNotFound"
    assert client.names(C, prefix="dir/") == []


@test
def a_delete_can_depend_on_the_etag(client):
    old = client.put(f"{C}/del", b"1")["ETag"]
    time.sleep(0.01)
    client.put(f"{C}/del", b"2")
    assert client.delete(f"{C}/del", if_match=old).status == 412
    assert client.head(f"{C}/del").status == 200


@test
def new_metadata_changes_the_etag_not_the_bytes(client):
    old = client.put(f"{C}/setmeta", b"same", x_ms_meta_a="1")["ETag"]
    time.sleep(0.01)
    done = client.request("PUT", f"{C}/setmeta", {"comp": "metadata"}, {"x-ms-meta-b": "2"})
    got = client.get(f"{C}/setmeta")
    assert done.status == 200 and got["ETag"] == done["ETag"] != old
    assert (got.body, got["x-ms-meta-a"], got["x-ms-meta-b"]) == (b"same", None, "2")


@test
def an_empty_blob_can_mark_a_folder(client):
    folder = {"x-ms-blob-type": "BlockBlob", "x-ms-meta-hdi_isfolder": "true"}
    assert client.request("PUT", f"{C}/marked", headers=folder).status == 201
    client.put(f"{C}/marked/x", b"1")
    head = client.head(f"{C}/marked")
    assert (head["x-ms-meta-hdi_isfolder"], head["Content-Length"]) == ("true", "0")
    assert client.names(C, prefix="marked") == ["marked", "marked/x"]
    got = client.names(C, prefix="marked", delimiter="/")
    assert sorted(map(str, got)) == sorted(map(str, ["marked", ("prefix", "marked/")]))
    client.delete(f"{C}/marked/x")
    assert client.names(C, prefix="marked") == ["marked"]
    assert client.delete(f"{C}/marked").status == 202
    assert client.names(C, prefix="marked") == []


@test
def a_container_is_created_once(client):
    client.create("once")
    again = client.create("once")
    assert (again.status, again.code) == (409, "ContainerAlreadyExists")
    assert client.request("GET", "once", {"restype": "container"}).status == 200
    missing = client.request("GET", "never", {"restype": "container"})
    assert (missing.status, missing.code) == (404, "ContainerNotFound")


# ---- credentials ----

@test
def another_key_is_refused(client):
    other = Client(f"http://{client.netloc}{client.base}", ACCOUNT, KEY.replace("b", "c"))
    got = other.get(f"{C}/whole")
    assert (got.status, got.code in REFUSED) == (403, True), got.code
    other.close()


@test
def a_header_that_was_not_signed_is_refused(client):
    path = client.path(f"{C}/whole")
    headers = {"x-ms-version": "2021-12-02", "x-ms-date": email.utils.formatdate(usegmt=True)}
    headers["Authorization"] = client.authorization("GET", path, {}, headers)
    headers["x-ms-range"] = "bytes=0-1"
    assert client.send("GET", path, headers).status == 403


@test
def a_container_sas_reads_and_lists_what_it_allows(client):
    client.put(f"{C}/sas", b"secret")
    sas = client.service_sas(C, sp="rl")
    assert client.request("GET", f"{C}/sas", sas=sas).body == b"secret"
    assert client.list(C, sas=sas).status == 200
    put = client.request("PUT", f"{C}/sas", headers={"x-ms-blob-type": "BlockBlob"}, body=b"",
                         sas=sas)
    assert (put.status, put.code) == (403, "AuthorizationPermissionMismatch")


@test
def a_blob_sas_opens_one_blob(client):
    client.put(f"{C}/sas", b"secret")
    client.put(f"{C}/other", b"secret")
    sas = client.service_sas(C, "sas")
    assert client.request("GET", f"{C}/sas", sas=sas).status == 200
    assert client.request("GET", f"{C}/other", sas=sas).code in REFUSED
    assert client.list(C, sas=sas).status == 403


@test
def an_expired_sas_is_authentication_failed(client):
    client.put(f"{C}/sas", b"secret")
    got = client.request("GET", f"{C}/sas", sas=client.service_sas(C, "sas", se=utc(-5)))
    assert (got.status, got.code in REFUSED) == (403, True), got.code
    got = client.request("GET", f"{C}/sas", sas=client.service_sas(C, "sas", st=utc(600)))
    assert (got.status, got.code in REFUSED) == (403, True), got.code


@test
def a_changed_sas_is_authentication_failed(client):
    client.put(f"{C}/sas", b"secret")
    sas = client.service_sas(C, "sas").replace("sp=r", "sp=rw")
    assert client.request("GET", f"{C}/sas", sas=sas).code in REFUSED


@test
def sas_versions_sign_different_fields(client):
    client.put(f"{C}/sas", b"secret")
    for version in ("2016-05-31", "2019-02-02", "2020-12-06", "2021-12-02"):
        sas = client.service_sas(C, "sas", sv=version)
        assert client.request("GET", f"{C}/sas", sas=sas).status == 200, version


@test
def an_https_sas_is_refused_over_http(client):
    client.put(f"{C}/sas", b"secret")
    got = client.request("GET", f"{C}/sas", sas=client.service_sas(C, "sas", spr="https"))
    assert (got.status, got.code) == (403, "AuthorizationProtocolMismatch")
    ok = client.service_sas(C, "sas", spr="https,http")
    assert client.request("GET", f"{C}/sas", sas=ok).status == 200


@test
def an_account_sas_names_service_and_resource_types(client):
    client.put(f"{C}/sas", b"secret")
    ok = client.account_sas()
    assert client.request("GET", f"{C}/sas", sas=ok).status == 200
    assert client.list(C, sas=ok).status == 200
    got = client.request("GET", f"{C}/sas", sas=client.account_sas(srt="c"))
    assert (got.status, got.code) == (403, "AuthorizationResourceTypeMismatch")
    got = client.request("GET", f"{C}/sas", sas=client.account_sas(ss="q"))
    assert (got.status, got.code) == (403, "AuthorizationServiceMismatch")
    got = client.request("GET", f"{C}/sas", sas=client.account_sas(sp="l"))
    assert (got.status, got.code) == (403, "AuthorizationPermissionMismatch")
    assert client.request("GET", f"{C}/sas", sas=client.account_sas(se=utc(-1))).status == 403


@test
def no_credentials_get_nothing(client):
    got = client.request("GET", f"{C}/whole", auth=False)
    assert got.status in (401, 403, 404) and got.body != bytes(range(256)) * 1000
