"""Database servers from Debian's packages, run on the lab's gateway, where its machines reach them.

A package that is missing is unpacked and not installed: nothing of it starts by itself on this computer.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from suite import until

# Readable by whom the servers run as.
CACHE = Path("/var/cache/rehost-test-servers")
# Servers of databases refuse to run as root.
NOBODY = 65534
PASSWORD = "p@ss word/1"  # characters that an address has to encode


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """The cache and apt for whoever is in the block: tests run beside these, and apt lets nobody in beside itself."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(package: str) -> Path:
    """A directory with the package and what it needs and this computer lacks."""
    root = CACHE / package
    with alone():
        if not (root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)
            debs = root / "debs"
            (debs / "partial").mkdir(parents=True)
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            subprocess.run(
                ["apt-get", "-qq", "-y", "--no-install-recommends", "--download-only",
                 "-o", f"Dir::Cache::archives={debs}", "install", package],
                check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            for deb in debs.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
            shutil.rmtree(debs)
            (root / "whole").touch()
    return root


def found(program: str, package: str) -> tuple[str, dict[str, str]]:
    """Where a program is, and the environment that it runs in."""
    installed = sorted(Path("/usr").glob(f"lib/postgresql/*/bin/{program}")) or shutil.which(program)
    if installed:
        return str(installed if isinstance(installed, str) else installed[-1]), dict(os.environ)
    root = unpacked(package)
    paths = [*root.glob(f"usr/*bin/{program}"), *root.glob(f"usr/lib/postgresql/*/bin/{program}")]
    libraries = ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu"))
    return str(paths[0]), {**os.environ, "LD_LIBRARY_PATH": libraries}


def run_as_nobody(words: Sequence[object], environ: dict[str, str], given: str = "") -> None:
    subprocess.run(
        [str(word) for word in words], env=environ, input=given.encode(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=True, user=NOBODY, group=NOBODY, extra_groups=[],
    )  # fmt: skip


@contextlib.contextmanager
def running(
    words: Sequence[object], environ: dict[str, str], log: Path, address: str, *ports: int
) -> Iterator[None]:
    """A server for as long as the block lasts, listening on its ports."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in words], env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            user=NOBODY, group=NOBODY, extra_groups=[],
        )  # fmt: skip

    def up() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        return all(open_(address, port) for port in ports)

    try:
        until(up, f"{words[0]} listens on {ports}")
        yield
    finally:
        process.terminate()
        process.wait(20)


def open_(address: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((address, port)) == 0


def free_port(address: str) -> int:
    with socket.socket() as one:
        one.bind((address, 0))
        port: int = one.getsockname()[1]
        return port


def certificate(directory: Path, address: str) -> None:
    """server.pem and server.key for the address, signed by themselves."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "database")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for file in ("server.pem", "server.key"):
        (directory / file).chmod(0o600)
        os.chown(directory / file, NOBODY, NOBODY)


@contextlib.contextmanager
def postgres(directory: Path, address: str, port: int) -> Iterator[None]:
    """Users: "app" by SCRAM, "old" by MD5; "elsewhere" is let in from no address. TLS with server.pem."""
    initdb, environ = found("initdb", "postgresql-15")
    data = directory / "postgres"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    run_as_nobody(
        [initdb, "-D", data, "-U", "owner", "-A", "trust", "--no-sync", "--no-instructions"], environ
    )
    (data / "pg_hba.conf").write_text(
        "local all all trust\nhost all elsewhere all reject\nhost all old all md5\nhost all all all scram-sha-256\n"
    )
    # One statement a line.
    users = (
        f"SET password_encryption='scram-sha-256';\nCREATE USER app PASSWORD '{PASSWORD}';\n"
        f"SET password_encryption='md5';\nCREATE USER old PASSWORD '{PASSWORD}';\nCREATE USER elsewhere;\n"
    )
    server = Path(initdb).with_name("postgres")
    run_as_nobody([server, "--single", "-D", data, "postgres"], environ, users)
    words = [server, "-D", data, "-h", address, "-p", port, "-k", directory, "-c", "ssl=on", "-c",
             f"ssl_cert_file={directory}/server.pem", "-c", f"ssl_key_file={directory}/server.key"]  # fmt: skip
    with running(words, environ, directory / "postgres.log", address, port):
        yield


@contextlib.contextmanager
def redis(directory: Path, address: str, port: int, tls: int) -> Iterator[None]:
    """One password for all; one port in clear, one with server.pem."""
    program, environ = found("redis-server", "redis-server")
    words = [program, "--bind", address, "--port", port, "--tls-port", tls, "--requirepass", PASSWORD, "--save", "",
             "--tls-cert-file", directory / "server.pem", "--tls-key-file", directory / "server.key",
             "--tls-ca-cert-file", directory / "server.pem", "--tls-auth-clients", "no",
             "--dir", directory]  # fmt: skip
    with running(words, environ, directory / "redis.log", address, port, tls):
        yield


@contextlib.contextmanager
def mariadb(directory: Path, address: str, port: int) -> Iterator[None]:
    """User "app" with a database "shop"; TLS with server.pem."""
    program, environ = found("mariadbd", "mariadb-server-core")
    data, share = directory / "mariadb", Path(program).parents[2] / "usr" / "share" / "mysql"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    words = [program, "--no-defaults", "--datadir", data, "--lc-messages-dir", share, "--character-sets-dir",
             share / "charsets", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--plugin-dir=/nowhere",
             "--innodb-use-native-aio=0", "--skip-networking"]  # fmt: skip
    # One statement ends with each line that ends with ";".
    script = (
        f"CREATE DATABASE mysql;\nUSE mysql;\n{(share / 'mysql_system_tables.sql').read_text()}\n"
        "FLUSH PRIVILEGES;\nCREATE DATABASE shop;\n"
        f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON shop.* TO app@'%';\n"
    )
    run_as_nobody([*words, "--bootstrap"], environ, script)
    serving = [*words[:-1], "--bind-address", address, "--port", port, "--socket", directory / "mariadb.sock",
               "--ssl-cert", directory / "server.pem", "--ssl-key", directory / "server.key"]  # fmt: skip
    with running(serving, environ, directory / "mariadb.log", address, port):
        yield
