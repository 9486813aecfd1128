"""The stand-in image and the registry that serves it, written through the registry's own HTTP API: no Docker
needed. Formats: OCI image specification v1 with Docker's media types, and the distribution specification.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from rehost.lab.programs import free_port, last_lines
from rehost.run.errors import RehostError
from rehost.run.events import Json

STANDS_FOR = "python:3.11-slim-bookworm"
TAGS = ("3.11-slim-bookworm", "3.11-slim")
REPOSITORY = "library/python"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
LABEL = "rehost.stand-in"
BLOCK = 1 << 20
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def recipe(certificates: bool) -> Json:
    """What of this module goes into the image: part of the key under which it is cached."""
    return [image_config("", certificates), list(TAGS)]


def image_config(diff_id: str, certificates: bool) -> dict[str, Json]:
    """The image's configuration, as the official image sets it, with a label that says what it is."""
    env: list[Json] = ["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    if certificates:
        # pip and OpenSSL's users look at certificates of their own unless told otherwise.
        env += [f"PIP_CERT={CERTIFICATES}", f"SSL_CERT_FILE={CERTIFICATES}"]
    return {
        "created": "2023-06-10T00:00:00Z",  # Debian 12's release; a fixed date keeps the image's digest the same
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Env": env,
            "Cmd": ["python3"],
            "Labels": {LABEL: f"not {STANDS_FOR}, but Debian's own Python in its place, for a lab"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "2023-06-10T00:00:00Z", "created_by": f"stand-in for {STANDS_FOR}"}],
    }


def registry_config(storage: Path, address: str, port: int, *, writable: bool) -> str:
    """The registry's configuration; JSON is YAML too."""
    return json.dumps(
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(storage)},
                "maintenance": {"readonly": {"enabled": not writable}, "uploadpurging": {"enabled": False}},
            },
            "http": {"addr": f"{address}:{port}"},
        }
    )


def store(directory: Path, layer: Path, *, certificates: bool) -> None:
    """Compresses the layer and puts the image into directory/storage, with directory/docker-registry.

    Raises RehostError with the registry's last lines when it does not take it.
    """
    packed = directory / "layer.tar.gz"
    diff_id = _compress(layer, packed)
    config = json.dumps(image_config(diff_id, certificates), sort_keys=True).encode()
    port = free_port("127.0.0.1", 0)
    settings, log = directory / "building.json", directory / "registry.log"
    settings.write_text(registry_config(directory / "storage", "127.0.0.1", port, writable=True))
    with log.open("wb") as output:
        registry = subprocess.Popen(
            [directory / "docker-registry", "serve", settings],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        base = f"http://127.0.0.1:{port}/v2/"
        _wait(base, registry)
        _push(f"{base}{REPOSITORY}/", config, packed)
    except OSError as failure:
        raise RehostError(
            f"the lab's registry did not take the stand-in image: {failure}",
            cure="Run the same again.",
            detail=last_lines(log.read_text(errors="replace")),
            retryable=True,
        ) from failure
    finally:
        registry.kill()
        registry.wait()
    for leftover in (packed, settings, log):
        leftover.unlink()


def _compress(layer: Path, packed: Path) -> str:
    """Returns the digest of the uncompressed layer. Level 1: machines on this computer unpack it, nobody mails it."""
    digest = hashlib.sha256()
    with layer.open("rb") as source, packed.open("wb") as out, gzip.GzipFile("", "wb", 1, out, 0) as archive:
        while block := source.read(BLOCK):
            digest.update(block)
            archive.write(block)
    return f"sha256:{digest.hexdigest()}"


def _wait(base: str, registry: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(base, timeout=2).close()  # noqa: S310 - a URL of our own
        except OSError:
            if registry.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _push(repository: str, config: bytes, packed: Path) -> None:
    with packed.open("rb") as source:
        layer_digest = hashlib.file_digest(source, "sha256").hexdigest()
    config_digest = hashlib.sha256(config).hexdigest()
    with packed.open("rb") as source:
        _upload(repository, layer_digest, source.read())
    _upload(repository, config_digest, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": f"sha256:{config_digest}"},
        "layers": [
            {"mediaType": LAYER_TYPE, "size": packed.stat().st_size, "digest": f"sha256:{layer_digest}"},
        ],
    }
    for tag in TAGS:
        _send("PUT", f"{repository}manifests/{tag}", json.dumps(manifest).encode(), MANIFEST_TYPE)


def _upload(repository: str, digest: str, data: bytes) -> None:
    location = _send("POST", f"{repository}blobs/uploads/", b"", "application/octet-stream")
    joint = "&" if "?" in location else "?"
    _send("PUT", f"{location}{joint}digest=sha256:{digest}", data, "application/octet-stream")


def _send(method: str, url: str, data: bytes, kind: str) -> str:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)  # noqa: S310 - our own URL
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return str(answer.headers.get("Location", ""))
