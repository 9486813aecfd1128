"""A real registry that asks for a password, with images in it that serve; a machine reaches it at its own loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from rehost.lab import images, trees
from rehost.lab.programs import free_port

USER, PASSWORD = "ada", "engines & numbers"
# What `htpasswd -B` makes of them; the registry reads nothing else.
HTPASSWD = "ada:$2b$05$abcdefghijklmnopqrstuuSPthK0N9luUnoqVMUmnJ9ZjIigW3d2.\n"
INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"


class Registry:
    """mirror: where the stand-in is pulled from. name: under which a machine knows it."""

    def __init__(self, port: int, mirror: str, name: str) -> None:
        self.port, self.name = port, name
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", auth=(USER, PASSWORD), trust_env=False, timeout=60
        )
        self._mirror = httpx.Client(base_url=f"{mirror}/v2/library/python/", trust_env=False, timeout=60)

    def close(self) -> None:
        self._client.close()
        self._mirror.close()

    def login(self, directory: Path, password: str = PASSWORD) -> Path:
        """What `docker login` leaves; returns the directory for DOCKER_CONFIG."""
        directory.mkdir(exist_ok=True)
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (directory / "config.json").write_text(json.dumps({"auths": {self.name: {"auth": auth}}}))
        return directory

    def push(self, repository: str, tag: str, command: list[str], architecture: str = "amd64") -> str:
        """An image of the stand-in's layers with a command of its own, in a list of one; returns the list's digest."""
        accept = {"Accept": images.MANIFEST_TYPE}
        manifest: dict[str, Any] = self._mirror.get("manifests/3.11-slim-bookworm", headers=accept).json()
        config = self._mirror.get(f"blobs/{manifest['config']['digest']}").json()
        config["config"]["Cmd"] = command
        config["architecture"] = architecture
        for layer in manifest["layers"]:
            if self._client.head(f"/v2/{repository}/blobs/{layer['digest']}").status_code != 200:
                self._upload(repository, self._mirror.get(f"blobs/{layer['digest']}").content)
        raw = json.dumps(config).encode()
        manifest["config"] |= {"digest": self._upload(repository, raw), "size": len(raw)}
        body = json.dumps(manifest).encode()
        one = {
            "mediaType": images.MANIFEST_TYPE,
            "digest": self._put(repository, _digest(body), images.MANIFEST_TYPE, body),
            "size": len(body),
            "platform": {"architecture": architecture, "os": "linux"},
        }
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [one]}
        return self._put(repository, tag, INDEX_TYPE, json.dumps(index).encode())

    def _put(self, repository: str, name: str, kind: str, body: bytes) -> str:
        put = self._client.put(
            f"/v2/{repository}/manifests/{name}", content=body, headers={"Content-Type": kind}
        )
        put.raise_for_status()
        return _digest(body)

    def _upload(self, repository: str, data: bytes) -> str:
        started = self._client.post(f"/v2/{repository}/blobs/uploads/")
        started.raise_for_status()
        digest = _digest(data)
        where = httpx.URL(started.headers["Location"]).copy_merge_params({"digest": digest})
        self._client.put(where, content=data).raise_for_status()
        return digest


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def serve(directory: Path, mirror: str, name: str) -> Iterator[Registry]:
    """Runs it on this computer's loopback until the end."""
    port = free_port("127.0.0.1", 0)
    settings = json.loads(images.registry_config(directory / "storage", "127.0.0.1", port, writable=True))
    (directory / "htpasswd").write_text(HTPASSWD)
    settings["auth"] = {"htpasswd": {"realm": "lab", "path": str(directory / "htpasswd")}}
    settings["http"]["relativeurls"] = True  # it is asked under two names
    (directory / "registry.json").write_text(json.dumps(settings))
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [trees.image_store() / "docker-registry", "serve", directory / "registry.json"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code == 401
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end, (
                    directory / "registry.log"
                ).read_text()
                time.sleep(0.05)
        with closing(Registry(port, mirror, name)) as running:
            yield running
    finally:
        process.kill()
        process.wait()
