"""AWS on this machine, for tests: MiniStack in a process of its own, with TLS and with IAM enforced."""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from ssl import create_default_context
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from processing.aws_client import client

ACCOUNT = "123456789012"
REGION = "eu-central-1"
START_SECONDS = 60.0
STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Emulator:
    """A running emulator. `environment` has what clients need: endpoint, CA, region, root credentials."""

    endpoint: str
    ca: Path
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CA_BUNDLE": str(self.ca),
            "NODE_EXTRA_CA_CERTS": str(self.ca),
            "SSL_CERT_FILE": str(self.ca),  # for Arrow's S3 client, which does not read AWS_CA_BUNDLE
            "CURL_CA_BUNDLE": str(self.ca),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,  # not the account of the person who runs the tests
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def running_emulator(folder: Path, **more: str) -> Iterator[Emulator]:
    """Run an emulator with its state in `folder` until the block ends. more: further environment variables of it."""
    certificate, key, ca = certificates(folder)
    port, log = free_port(), folder / "emulator.log"
    emulator = Emulator(f"https://127.0.0.1:{port}", ca, log)
    settings = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "MINISTACK_SSL_CERT": str(certificate),
        "MINISTACK_SSL_KEY": str(key),
        "S3_DATA_DIR": str(folder / "s3"),
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(folder / "state"),
        "TMPDIR": str(folder),
        "USE_SSL": "1",
    }
    with ExitStack() as stack:
        with _starting(), log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                cwd=folder,
                env={**os.environ, **emulator.environment, **settings, **more},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_stop, process)
            _wait(emulator, process)
        yield emulator


@contextmanager
def _starting() -> Iterator[None]:
    """Let only one emulator start at a time: each also takes port 443, and two that try at once both fail."""
    with Path(tempfile.gettempdir(), "fraudline-tests-emulator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def create_online_table(name: str) -> None:
    """Create the table of the online store as the stack does."""
    types = {"pk": "S", "sk": "S", "feed": "S", "recorded": "N"}
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in types.items()],
        KeySchema=_schema("pk", "sk"),
        GlobalSecondaryIndexes=[
            {"IndexName": "latest", "KeySchema": _schema("feed", "recorded"), "Projection": {"ProjectionType": "ALL"}}
        ],
    )
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})


def _schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make a certificate for 127.0.0.1, signed by a CA of its own; returns the files (certificate, key, CA)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = _name("Fraudline tests CA")
    about_ca = _builder(name, name, authority.public_key())
    about_ca = about_ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    about_ca = about_ca.add_extension(_usage(signs=True), critical=True)
    hosts = [x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName("*.localhost")]
    server = _builder(_name("127.0.0.1"), name, own.public_key())
    server = server.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    server = server.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    server = server.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    server = server.add_extension(issuer, critical=False)
    paths = folder / "server.pem", folder / "server.key", folder / "ca.pem"
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for path, content in zip(
        paths,
        (
            server.sign(authority, hashes.SHA256()).public_bytes(pem),
            own.private_bytes(pem, *plain),
            about_ca.sign(authority, hashes.SHA256()).public_bytes(pem),
        ),
        strict=True,
    ):
        path.write_bytes(content)
    return paths


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=2))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, decipher_only=False, **dict.fromkeys(others, False)
    )


def free_port() -> int:
    """A free port, outside the range of outgoing connections, one of which might take it.

    Tests that run side by side must not draw the same one, whatever seeds Python's own generator.
    """
    while True:
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port := random.SystemRandom().randrange(20_000, 32_768)))
            return port


def _wait(emulator: Emulator, process: subprocess.Popen[bytes]) -> None:
    context, ends = create_default_context(cafile=str(emulator.ca)), time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    while True:
        try:
            opener.open(f"{emulator.endpoint}/_ministack/health", timeout=5).close()
            return
        except urllib.error.HTTPError:  # it responds
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > ends:
                output = emulator.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the emulator did not start: {output}") from None
            time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children, all of which are in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
