"""HTTPS with a certificate of one's own, and clear words for files that are none."""

import socket
import ssl
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization as forms

from serving import Server, callhouse, send


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """A certificate of this machine and its key."""
    directory = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    for name, pems in (("cert.pem", issued.cert_chain_pems), ("key.pem", [issued.private_key_pem])):
        (directory / name).write_bytes(b"".join(pem.bytes() for pem in pems))
    return directory / "cert.pem", directory / "key.pem"


@pytest.fixture(scope="module")
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def server(files, trusting, tmp_path):
    settings = [f"server.tls_{name}={file}" for name, file in zip(("cert", "key"), files, strict=True)]
    with Server(tmp_path / "data", *settings) as running:
        running.client.close()
        running.client = httpx.Client(base_url=running.url, verify=trusting, timeout=60)
        yield running


def test_a_client_that_verifies_the_certificate_sends_and_reads(server, now_seconds):
    assert server.url.startswith("https://127.0.0.1:")
    login = server.account()
    send(server, login, [{"session_id": "s", "start": now_seconds - 60, "end": now_seconds - 1}])
    found = server.client.get(f"/api/calls/{now_seconds - 3600}/{now_seconds}", auth=login.fuse).json()
    assert [call["session_id"] for call in found["calls"]] == ["s"]
    assert server.stop() == 0


def test_nothing_is_answered_in_the_clear(server):
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https", "http") + "/healthz")
    assert server.client.get("/healthz").status_code == 200


def test_a_certificate_that_the_client_does_not_trust_is_not_taken(server):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/healthz")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server, authority, version):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    address = urlsplit(server.url)
    with (
        socket.create_connection((address.hostname, address.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.version() == version.name.replace("_", ".")


def test_tls_1_1_is_refused(server, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    # So that it is the server that refuses.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_client_that_says_nothing_keeps_nobody_waiting(server):
    address = urlsplit(server.url)
    silent = [socket.create_connection((address.hostname, address.port), timeout=60) for _ in range(20)]
    try:
        assert server.client.get("/healthz").status_code == 200
    finally:
        for connection in silent:
            connection.close()


class TestFiles:
    def refused(self, tmp_path, *options):
        done = callhouse("serve", "--port", "0", *options, data=tmp_path / "data", check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return " ".join(done.stderr.split())

    def test_one_without_the_other_is_named(self, files, tmp_path):
        assert "server.tls_key is not set" in self.refused(tmp_path, "--tls-cert", files[0])
        assert "server.tls_cert is not set" in self.refused(tmp_path, "--tls-key", files[1])

    def test_a_file_that_cannot_be_read_is_named(self, files, tmp_path):
        message = self.refused(tmp_path, "--tls-cert", tmp_path / "none.pem", "--tls-key", files[1])
        assert f"The TLS certificate {tmp_path}/none.pem cannot be read: No such file" in message
        message = self.refused(tmp_path, "--tls-cert", files[0], "--tls-key", tmp_path)
        assert f"The TLS key {tmp_path} cannot be read: Is a directory" in message

    def test_the_key_of_another_certificate_is_refused(self, authority, files, tmp_path):
        other = tmp_path / "other.pem"
        authority.issue_cert("localhost").private_key_pem.write_to_path(other)
        message = self.refused(tmp_path, "--tls-cert", files[0], "--tls-key", other)
        assert "the key is not that of the certificate" in message

    def test_a_file_that_is_no_pem_is_refused(self, files, tmp_path):
        (tmp_path / "text").write_text("no certificate")
        assert "cannot be used" in self.refused(tmp_path, "--tls-cert", tmp_path / "text", "--tls-key", files[1])

    def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(self, files, tmp_path):
        key = forms.load_pem_private_key(files[1].read_bytes(), None)
        encrypted = key.private_bytes(
            forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.BestAvailableEncryption(b"secret")
        )
        (tmp_path / "key.pem").write_bytes(encrypted)
        message = self.refused(tmp_path, "--tls-cert", files[0], "--tls-key", tmp_path / "key.pem")
        assert "The TLS key is encrypted" in message
