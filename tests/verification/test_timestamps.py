"""Time stamps: our own authority's and openssl's verify; everything that was changed does not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st

from countermark.errors import IntegrityError
from tests.verification.authority import authority
from verification import der
from verification.timestamps import open_timestamp, request

DIGEST = hashlib.sha256(b"a commitment").hexdigest()
TSA = authority()
STAMP = TSA.stamp(DIGEST)
VERSION = STAMP.index(b"\xa0\x03\x02\x01\x02") + 4
OPENSSL = shutil.which("openssl")


def test_a_stamp_says_what_when_and_who():
    found = open_timestamp(STAMP, [TSA.pem])
    assert (found.digest, found.time, found.trusted) == (DIGEST, "2026-01-31T12:00:00Z", True)
    assert found.authority == "CN=stamps"
    assert not open_timestamp(STAMP).trusted
    assert open_timestamp(TSA.stamp(DIGEST, bare=True)).digest == DIGEST
    assert open_timestamp(TSA.stamp(DIGEST, at="20260131120000.25Z")).time == "2026-01-31T12:00:00Z"


def test_only_a_chain_of_signatures_leads_to_an_authority():
    assert not open_timestamp(STAMP, [authority(number=1).pem]).trusted  # the same names, other keys
    assert open_timestamp(TSA.stamp(DIGEST, certificates=[TSA.raw]), [TSA.pem]).trusted  # the reader holds the root
    assert open_timestamp(STAMP, [TSA.certificate.public_bytes(Encoding.PEM)]).trusted
    short = authority(days=30)  # the root has expired, and so has the certificate
    with pytest.raises(IntegrityError, match="not valid"):
        open_timestamp(short.stamp(DIGEST), [short.pem])


BROKEN = {
    "another digest than SHA-256": {"hash": der.encode(der.SEQUENCE, der.encode_oid("1.3.14.3.2.26"))},
    "content exchanged": {"content": b"\x30\x00"},
    "another certificate bound": {"bound": bytes(32)},
    "no content type": {"without": {0}},
    "another content type": {"kind": der.encode_oid("1.2.3")},
    "no message digest": {"without": {1}},
    "no bound certificate": {"without": {2}},
    "no certificate": {"certificates": []},
    "two signers": {"signers": 2},
    "nobody signs": {"signers": 0},
    "no date": {"at": "20261331120000Z"},
    "a date in another form": {"at": "20260131120000+0100"},
    "before the certificate": {"at": "20240101000000Z"},
    "after the certificate": {"at": "20360101000000Z"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_stamp_broken_in_one_place(name):
    for authorities in ([], [TSA.pem]):
        with pytest.raises(IntegrityError):
            open_timestamp(TSA.stamp(DIGEST, **BROKEN[name]), authorities)


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": [ExtendedKeyUsageOID.SERVER_AUTH]},
        {"usage": [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH]},
        {"critical": False},
    ],
)
def test_a_certificate_for_other_uses(changes):
    with pytest.raises(IntegrityError):
        open_timestamp(authority(**changes).stamp(DIGEST))


def test_a_refused_response_is_no_stamp():
    refused = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_integer(2)))
    with pytest.raises(IntegrityError, match="status 2"):
        open_timestamp(refused)


@given(st.integers(0, 8 * len(STAMP) - 1))
@example(8 * VERSION)  # X.509 knows no such version
def test_a_flipped_bit_never_gives_another_stamp(bit):
    changed = bytearray(STAMP)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        found = open_timestamp(bytes(changed), [TSA.pem])
    except IntegrityError:
        return
    assert (found.digest, found.time) == (DIGEST, "2026-01-31T12:00:00Z")


@given(
    st.binary(max_size=80) | st.builds(lambda a, b: STAMP[:a] + b, st.integers(0, len(STAMP)), st.binary(max_size=9))
)
def test_bytes_that_are_no_stamp_are_named(data):
    if data != STAMP:
        with pytest.raises(IntegrityError):
            open_timestamp(data)


@given(st.integers(0, 2**70), st.lists(st.integers(0, 2**40), max_size=6), st.binary(max_size=300))
def test_der_reads_what_it_writes(number, arcs, data):
    dotted = ".".join(map(str, (1, 2, *arcs)))
    whole = der.parse(
        der.encode(der.SEQUENCE, der.encode_integer(number), der.encode_oid(dotted), der.encode(der.OCTET_STRING, data))
    )
    first, second, third = whole.sequence(3)
    assert (first.integer(), second.oid(), third.expect(der.OCTET_STRING).body) == (number, dotted, data)


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x80\x00\x00", b"\x30\x81\x01\x00", b"\x30\x82\x00\x81", b"\x1f\x01\x00",
             b"\x30\x02\x05", b"\x30\x85\x01\x00\x00\x00\x00", b"\x05\x00\x00"],
)  # fmt: skip
def test_what_is_no_der(data):
    with pytest.raises(der.DerError):
        der.parse(data)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", ["rsa:2048", "ec"])
def test_openssl_stamps_what_we_request_and_verifies_what_we_stamp(tmp_path, kind):
    def run(*arguments):
        subprocess.run([OPENSSL, *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)

    key = ["-newkey", kind, *(["-pkeyopt", "ec_paramgen_curve:P-384"] if kind == "ec" else [])]
    (tmp_path / "tsa.cnf").write_text(CONFIG)
    run("req", "-x509", *key, "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem", "-subj", "/CN=openssl",
        "-config", "tsa.cnf", "-extensions", "usage", "-days", "30")  # fmt: skip
    (tmp_path / "query.tsq").write_bytes(request(DIGEST))
    run("ts", "-reply", "-config", "tsa.cnf", "-section", "authority", "-queryfile", "query.tsq", "-out", "made.tsr")
    found = open_timestamp((tmp_path / "made.tsr").read_bytes(), [(tmp_path / "tsa.pem").read_bytes()])
    assert (found.digest, found.trusted, found.authority) == (DIGEST, True, "CN=openssl")
    (tmp_path / "ours.tsr").write_bytes(STAMP)
    (tmp_path / "root.pem").write_bytes(TSA.pem)
    run("ts", "-verify", "-digest", DIGEST, "-in", "ours.tsr", "-CAfile", "root.pem")


def test_a_request_asks_for_the_digest_and_the_certificate():
    version, imprint, wanted = der.parse(request(DIGEST)).sequence(3)
    assert (version.integer(), imprint.sequence(2)[1].body.hex(), wanted.body) == (1, DIGEST, b"\xff")


CONFIG = """
[req]
distinguished_name = name
[name]
[usage]
basicConstraints = CA:true
extendedKeyUsage = critical,timeStamping
[authority]
serial = serial
signer_cert = tsa.pem
certs = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
"""
