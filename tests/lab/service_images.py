"""Images of databases where none can be pulled: Python's stand-in with Debian's packages and an entrypoint.

They take what the official images take: the postgres of `postgres:15` its POSTGRES_* variables, the redis of `redis:7`
its words. What they are made from is cached with the servers; Docker on the machine makes the image.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import servers
from rehost.lab import mirror, trees
from suite import Lab, Laptop

BASE = "python:3.11-slim-bookworm"
# What the packages need to be installed, and no server to run. Without LLVM nothing is compiled just in time.
LEFT_OUT = (
    *(
        "perl",
        "libperl",
        "libjson-perl",
        "libgdbm",
        "libllvm",
        "libz3",
        "locales",
        "ssl-cert",
        "openssl",
        "cron",
    ),
    *("logrotate", "postgresql-common", "postgresql-client-common", "sysvinit-utils", "lsb-", "distro-"),
)


class Recipe(NamedTuple):
    packages: tuple[str, ...]
    dockerfile: str
    entrypoint: str


_POSTGRES = Recipe(
    ("postgresql-15",),
    f"""FROM {BASE}
ADD files.tar.gz /
RUN groupadd -r -g 999 postgres && useradd -r -g postgres -u 999 -d /var/lib/postgresql postgres && \\
  install -d -o postgres -g postgres /var/lib/postgresql/data /run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
COPY entrypoint /usr/local/bin/
ENTRYPOINT ["entrypoint"]
CMD ["postgres"]
""",
    """#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres: "$PGDATA"
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  umask 077
  printf '%s\\n' "${POSTGRES_PASSWORD:?a password is needed}" >/tmp/password
  initdb --username="$user" --pwfile=/tmp/password --auth=trust --no-sync --no-instructions
  rm /tmp/password
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  if [ "${POSTGRES_DB:-$user}" != postgres ]; then
    printf 'CREATE DATABASE "%s"\\n' "${POSTGRES_DB:-$user}" | postgres --single -j -D "$PGDATA" postgres
  fi
fi
exec "$@"
""",
)
_REDIS = Recipe(
    ("redis-server",),
    f"""FROM {BASE}
ADD files.tar.gz /
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis && install -d -o redis -g redis /data
VOLUME /data
WORKDIR /data
COPY entrypoint /usr/local/bin/
ENTRYPOINT ["entrypoint"]
CMD ["redis-server"]
""",
    """#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then set -- redis-server "$@"; fi
if [ "$1" != redis-server ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis: {} +
  exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi
umask 077
exec "$@" --protected-mode no
""",
)
RECIPES: Mapping[str, Recipe] = {"postgres:15": _POSTGRES, "redis:7": _REDIS}


def give(lab: Lab, laptop: Laptop, name: str) -> None:
    """The machine's Docker has the image afterwards, under its own name."""
    if mirror.url(lab.places) is None:  # real images can be pulled
        laptop.inside(f"docker pull --quiet {name}")
        return
    if laptop.inside(f"docker image inspect {name} >/dev/null 2>&1 && echo there || true").strip():
        return
    with servers.alone():
        made = _context(laptop, RECIPES[name])
    with made.open("rb") as context:
        done = subprocess.run(
            laptop.line("ssh", "--", "sudo", "docker", "build", "-t", name, "-"), cwd=laptop.directory,
            env=dict(laptop.environ), stdin=context, capture_output=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-2000:]


def _context(laptop: Laptop, recipe: Recipe) -> Path:
    """What `docker build` gets, as a file; made once."""
    key = hashlib.sha256(repr((recipe, LEFT_OUT, trees.image_store().name)).encode()).hexdigest()[:12]
    made = servers.CACHE / "images" / f"{recipe.packages[0]}-{key}.tar"
    if made.exists():
        return made
    work = made.with_suffix(".half")
    shutil.rmtree(work, ignore_errors=True)
    debs, root = work / "debs", work / "root"
    (debs / "partial").mkdir(parents=True)
    # The packages that the base lacks, and not those that this computer lacks.
    status = laptop.inside(f"docker run --rm {BASE} cat /var/lib/dpkg/status")
    (work / "status").write_text(status)
    subprocess.run(["apt-get", "-qq", "update"], check=True)
    subprocess.run(
        ["apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", "-o", f"Dir::Cache::archives={debs}",
         "-o", f"Dir::State::status={work / 'status'}", "install", *recipe.packages],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for deb in sorted(debs.glob("*.deb")):
        if not deb.name.startswith(LEFT_OUT):
            subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    for name in ("bin", "sbin", "lib"):  # they are links to those in /usr in the base
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    for pattern in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/postgresql/*/lib/bitcode"):
        for path in root.glob(pattern):
            shutil.rmtree(path)
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w:gz", compresslevel=1) as archive:
        archive.add(root, arcname=".")
    with tarfile.open(work / "context", "w") as archive:
        for name, data, mode in (
            ("Dockerfile", recipe.dockerfile.encode(), 0o644),
            ("entrypoint", recipe.entrypoint.encode(), 0o755),
            ("files.tar.gz", files.getvalue(), 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    (work / "context").rename(made)
    shutil.rmtree(work)
    return made
