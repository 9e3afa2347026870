"""A link over TLS, with an authority made for the test."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.backend.policy import LinkEnd
from edge.media.dialogue import Play
from tests.support.fake_backend import Visitor, drop, fake_backend, never_read, record, say
from tests.support.fake_session import frame, linked


class Authority:
    """A certificate authority and the files that are needed of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the test")])
        self._key_usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(self._key_usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str) -> ssl.SSLContext:
        """Return the settings of a server with a certificate for this name or address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        certificate = (
            self._builder(name, key.public_key())
            .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sound_and_commands_go_both_ways(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server("localhost")
    context.maximum_version = context.minimum_version = version
    long = bytes(range(256)) * 1000
    async with (
        fake_backend(say(b"hello", long, "question"), tls=context) as backend,
        linked(backend.url, ca_file=authority.ca_file) as session,
    ):
        visitor = await backend.visitor()
        await visitor.wait_for("answer to question")
        session.link.hear(frame(1))
        await visitor.wait_for(frame(1).audio)
        assert session.commands == [Play("1", b"hello"), Play("1", long)]
        session.link.finish("caller-left")
        await session.returned.wait()
        await visitor.gone.wait()
        assert visitor.close_code == 1000
        assert visitor.messages[-1] == "stop caller-left"


async def test_an_address_has_a_certificate_too(authority: Authority) -> None:
    async with (
        fake_backend(record, tls=authority.server("127.0.0.1")) as backend,
        linked(f"wss://127.0.0.1:{backend.port}/", ca_file=authority.ca_file) as session,
    ):
        await session.wait_until("s.link.state == 'open'")


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async with (
        fake_backend(record, tls=authority.server("elsewhere.example")) as backend,
        linked(backend.url, ca_file=authority.ca_file) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.REFUSED]
        assert "Hostname mismatch" in session.ends[0][1]
        assert len(backend.visitors) == 1


async def test_an_unknown_authority_is_refused(authority: Authority) -> None:
    async with (
        fake_backend(record, tls=authority.server("localhost")) as backend,
        linked(backend.url) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.REFUSED]


async def test_a_server_without_tls_is_not_taken(authority: Authority) -> None:
    async def plain(visitor: Visitor) -> None:
        await visitor.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with (
        fake_backend(plain) as backend,
        linked(f"wss://localhost:{backend.port}/", ca_file=authority.ca_file) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.UNREACHABLE]
        assert len(backend.visitors) == 3


async def test_who_never_reads_loses_the_oldest_sound(authority: Authority) -> None:
    async with (
        fake_backend(never_read, tls=authority.server("localhost")) as backend,
        linked(backend.url, ca_file=authority.ca_file) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        for number in range(20_000):
            session.link.hear(frame(number))
        figures = session.link.statistics()
        assert figures.queued == pytest.approx(5.0)
        assert figures.frames_dropped > 10_000


async def test_who_reads_again_gets_whole_messages(authority: Authority) -> None:
    released = trio.Event()

    async def pausing(visitor: Visitor) -> None:
        await visitor.accept()
        await released.wait()
        await visitor.read()

    async with (
        fake_backend(pausing, tls=authority.server("localhost")) as backend,
        linked(backend.url, ca_file=authority.ca_file, queue_max=1.0) as session,
    ):
        await session.wait_until("s.link.state == 'open'")
        for number in range(20_000):
            session.link.hear(frame(number))
        released.set()
        visitor = await backend.visitor()
        await visitor.wait_for(frame(19_999).audio)
        assert {len(each) for each in visitor.messages if each != "start"} == {640}


async def test_an_end_without_goodbye_is_a_loss(authority: Authority) -> None:
    async with (
        fake_backend(drop, tls=authority.server("localhost")) as backend,
        linked(backend.url, ca_file=authority.ca_file, attempts=1) as session,
    ):
        await session.returned.wait()
        assert [end for end, _ in session.ends] == [LinkEnd.LOST]
