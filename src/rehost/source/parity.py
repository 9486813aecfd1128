"""What an app relied on at Render without saying so: each row that concerns this one, with what becomes of it.

"ok" is what rehost does by itself; "warning" is what the owner has to do, also where rehost cannot do it yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from rehost.project import platform
from rehost.project.config import Project
from rehost.project.dockerfile import Dockerfile
from rehost.run.findings import Finding
from rehost.source import parity_blueprint
from rehost.source.contract import BAKED
from rehost.source.contract_files import Sources, line_of
from rehost.source.yaml_text import Mapped

_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE|CREDENTIAL|API_?KEY|_KEY$|_DSN$|DATABASE_URL|MONGO\w*_UR[IL]"
)
_DOCUMENTS = (".md", ".txt", ".lock")


class Sign(NamedTuple):
    """What in the sources a row is told from. words: a file without any of them is not searched, which is quick."""

    pattern: re.Pattern[bytes]
    words: tuple[bytes, ...]


class App(NamedTuple):
    """What the rows are told from. sources: what is built. given: names in the env files.

    services: those of the blueprint, the app's own first; empty without one. databases: the names of variables
    whose value is an address of MongoDB Atlas.
    """

    project: Project
    sources: Sources
    image: Dockerfile | None
    given: Collection[str]
    services: tuple[Mapped, ...] = ()
    atlas: tuple[str, ...] = ()

    @property
    def from_render(self) -> bool:
        url = self.project.source.url or ""
        return bool(self.services) or self.project.source.render is not None or ".onrender.com" in url

    def places(self, sign: Sign) -> list[tuple[str, int, bytes]]:
        """Where it stands in what is built, documents left out: file, line and the text that matched."""
        return [
            (path, line_of(text, found.start()), found[0])
            for path, text in self.sources.texts.items()
            if not path.lower().endswith(_DOCUMENTS) and not path.rpartition("/")[2].startswith(".env")
            if any(word in text for word in sign.words)
            for found in sign.pattern.finditer(text)
            if not _commented(text, found.start())
        ]


def findings(app: App) -> list[Finding]:
    """Row by row."""
    return [
        *_port(app),
        *_variables(app),
        *_arguments(app),
        *_baked(app),
        *_secret_files(app),
        *_front(app),
        *_forwarded(app),
        *_written(app),
        *_outbound(app),
        *parity_blueprint.findings(app.project, app.services),
    ]


def _commented(text: bytes, position: int) -> bool:
    start = text.rfind(b"\n", 0, position) + 1
    return text[start:position].lstrip().startswith((b"#", b"//", b"*", b"<!--"))


def _place(found: tuple[str, int, bytes]) -> str:
    return f"{found[0]}:{found[1]}"


_TEN_THOUSAND = Sign(
    re.compile(rb"(?i)(?:port|bind|listen|expose|0\.0\.0\.0)[^\n]{0,30}?\b10000\b"), (b"10000",)
)


def _port(app: App) -> Iterator[Finding]:
    port = app.project.run.port
    fixed = app.places(_TEN_THOUSAND) if port != 10000 else []
    if fixed:
        yield Finding(
            "warning",
            f"Render's port 10000 stands here, and rehost.toml says {port}.",
            "Let the app listen on the variable PORT, or write port = 10000 under [run].",
            _place(fixed[0]),
        )
    if app.from_render:
        said = "what the env file says" if "PORT" in app.given else str(port)
        yield Finding(
            "ok", f"PORT is {said}; only the proxy reaches that port, as at Render", where="run.port"
        )


def _variables(app: App) -> Iterator[Finding]:
    named: dict[str, str] = {}
    for path, text in app.sources.texts.items():
        for name in platform.mentioned(path, text):
            found = re.search(rf"\b{name}\b".encode(), text)
            named.setdefault(name, f"{path}:{line_of(text, found.start()) if found else 1}")
    image = app.image.env if app.image else {}
    wanted = {name: at for name, at in named.items() if name not in app.given and name not in image}
    values = platform.values(wanted, app.project)
    if values:
        listed = ", ".join(f"{name}={values[name]} ({wanted[name]})" for name in sorted(values))
        yield Finding("ok", f"the container gets what Render gave: {listed}", where="env")
    for name in sorted(wanted.keys() - values.keys()):
        cure = platform.NOT_GIVEN.get(name)
        if cure is None:
            cure = (
                "name the domain under [domain], or set it in the env file: an app that answers to this name alone "
                "(ALLOWED_HOSTS) refuses the health gate too"
                if "EXTERNAL" in name
                else "make this directory a git checkout, or set it in the env file"
            )
        yield Finding(
            "warning",
            f"{name}: Render gave it to the app, and rehost has no value for it.",
            f"{cure[0].upper()}{cure[1:]}.",
            wanted[name],
        )


def _arguments(app: App) -> Iterator[Finding]:
    where = app.project.build.dockerfile
    args = app.project.build.args
    for name in sorted(args):
        if _SECRET.search(name.upper()):
            yield Finding(
                "warning",
                f"{name}: a build argument stays readable in the image, and this looks like a secret.",
                "Let the app read it when it runs: take it out of `args` and put it into the env file.",
                "rehost.toml, [build] args",
            )
    for name, default in sorted((app.image.args if app.image else {}).items()):
        if name in args or name not in app.given:
            continue
        if _SECRET.search(name.upper()):
            what = "Render filled this ARG from the app's variables, and the image kept the secret; rehost does not."
            cure = "Take the ARG out and read the variable when the app runs."
        else:
            kept = f" It now has its default, {default!r}." if default is not None else " It is now empty."
            what = f"Render filled this ARG from the app's variables; rehost passes what `args` says.{kept}"
            cure = f"Write {name} into `args` under [build] if the build needs it."
        yield Finding("warning", f"{name}: {what}", cure, where)


def _baked(app: App) -> Iterator[Finding]:
    declared = {*(app.image.args if app.image else {}), *(app.image.env if app.image else {})}
    needed = sorted(name for name in app.given if BAKED.fullmatch(name) and name not in declared)
    used = [name for name in needed if any(name.encode() in text for text in app.sources.texts.values())]
    if used:
        yield Finding(
            "warning",
            f"the bundler reads {', '.join(used)} while the image is built, when the env file is not there.",
            "Declare each with ARG in the Dockerfile, before the build, and give it in `args` under [build].",
            app.project.build.dockerfile,
        )


_SECRET_FILE = Sign(re.compile(rb"/etc/secrets\b[\w./-]*"), (b"/etc/secrets",))


def _secret_files(app: App) -> Iterator[Finding]:
    mounted = any(each.endswith((":/etc/secrets", ":/etc")) for each in app.project.run.volumes)
    given = {path.rpartition("/")[2] for path in app.project.env.secret_files}
    for found in app.places(_SECRET_FILE)[:5]:
        name = found[2].decode().removeprefix("/etc/secrets").strip("/.").partition("/")[0]
        if not mounted and (name not in given if name else not given):
            yield Finding(
                "warning",
                f"{found[2].decode()} is a secret file of Render's, and `secret_files` names none that would stand "
                "there.",
                "Save its content in a file of that name (chmod 600, outside git) and name it in `secret_files` under "
                "[env].",
                _place(found),
            )


def _front(app: App) -> Iterator[Finding]:
    if not app.from_render:
        return
    run = app.project.run
    if run.health != "/" and run.health_status.high < 399:
        yield Finding(
            "ok",
            f'{run.health} must answer {run.health_status}; Render took 3xx too (health_status = "200-399")',
            where="run.health_status",
        )
    yield Finding(
        "ok", f"an old container gets SIGTERM, and SIGKILL {run.stop_grace} s later", where="run.stop_grace"
    )
    yield Finding(
        "warning",
        "Render's edge did TLS, the redirect to https, HTTP/2 and compression; the proxy speaks plain HTTP.",
        "Put something in front that ends TLS before users' traffic goes there.",
        "rehost.toml, [domain]",
    )


_SERVERS = Sign(re.compile(rb"\b(?:uvicorn|gunicorn|hypercorn)\b"), (b"corn",))
_TRUST = Sign(
    re.compile(
        rb"forwarded.allow.ips|FORWARDED_ALLOW_IPS|ProxyHeadersMiddleware|ProxyFix|proxy_headers\s*=\s*False"
    ),
    (b"orwarded", b"FORWARDED", b"Proxy", b"proxy_headers"),
)
_HOPS = Sign(
    re.compile(rb"""['"]trust proxy['"]\s*,\s*([2-9]|true\b)|ProxyFix\([^)]*x_for\s*=\s*([2-9])"""),
    (b"trust proxy", b"x_for"),
)
_CLOUDFLARE = Sign(
    re.compile(rb"(?i)cf[-_]connecting[-_]ip|true[-_]client[-_]ip|cf[-_]ipcountry|cf[-_]ray\b"),
    (b"onnecting", b"CONNECTING", b"lient", b"CLIENT", b"CF", b"cf-"),
)
_HTTPS_ONLY = Sign(
    re.compile(
        rb"SECURE_SSL_REDIRECT\s*=\s*(?!False)|config\.force_ssl\s*=\s*true|HTTPSRedirectMiddleware|express-sslify"
        rb"|express-enforces-ssl|Talisman\(|force_ssl:"
    ),
    (b"SSL", b"ssl", b"HTTPSRedirect", b"Talisman"),
)


def _forwarded(app: App) -> Iterator[Finding]:
    servers = app.places(_SERVERS)
    known = "FORWARDED_ALLOW_IPS" in app.given or (app.image and "FORWARDED_ALLOW_IPS" in app.image.env)
    if servers and not known and not app.places(_TRUST):
        yield Finding(
            "warning",
            "uvicorn and gunicorn believe X-Forwarded-For and -Proto from 127.0.0.1 alone, and the proxy comes from "
            "another address: the app sees it as the client, and http.",
            "Set FORWARDED_ALLOW_IPS=* in the env file: nobody but the proxy reaches the container's port.",
            _place(servers[0]),
        )
    for found in app.places(_HOPS):
        yield Finding(
            "warning",
            f"`{found[2].decode()}` counts on several proxies, as at Render; here there is one, and a "
            "client could forge its address.",
            "Trust one proxy (unless another stands in front of this machine).",
            _place(found),
        )
    for found in app.places(_CLOUDFLARE)[:3]:
        yield Finding(
            "warning",
            f"{found[2].decode()}: the network in front of Render sets this header; the proxy here does not.",
            "Read X-Forwarded-For, which the proxy sets.",
            _place(found),
        )
    status = app.project.run.health_status
    for found in app.places(_HTTPS_ONLY)[:1]:
        if status.high < 301:
            yield Finding(
                "warning",
                "the app redirects http to https, and the health gate asks over plain http: it gets a redirect.",
                f'Let {app.project.run.health} be asked over http, or write health_status = "200-399" under [run].',
                _place(found),
            )


_WRITES = Sign(
    re.compile(
        rb"""sqlite(?:\+\w+)?:///(?!:memory:)[^\s"'`]+|['"][\w./-]+\.(?:sqlite3?|db)['"]|multer\(\s*\{\s*dest"""
        rb"""|diskStorage\(|\bMEDIA_ROOT\s*=|\bUPLOAD_(?:FOLDER|DIR(?:ECTORY)?)\b\s*[=:]"""
    ),
    (b"sqlite", b".db", b"multer", b"diskStorage", b"MEDIA_ROOT", b"UPLOAD_"),
)


def _written(app: App) -> Iterator[Finding]:
    found = app.places(_WRITES)
    if found and not app.project.run.volumes:
        yield Finding(
            "warning",
            f"`{found[0][2].decode(errors='replace')}`: what the app writes into its container ends with each release.",
            "Name the directory in `volumes` under [run], if what is in it has to stay.",
            _place(found[0]),
        )


def _outbound(app: App) -> Iterator[Finding]:
    if app.atlas:
        yield Finding(
            "warning",
            f"{', '.join(app.atlas)}: MongoDB Atlas lets in the addresses on its list alone, and the machine's is new.",
            "Add the machine's static address to Atlas's access list before the release (`rehost atlas` does): a "
            "missing entry looks like a time-out of the server selection.",
            "env",
        )


def atlas(values: Mapping[str, str]) -> tuple[str, ...]:
    """The variables whose value is an address of MongoDB Atlas."""
    return tuple(name for name, value in values.items() if re.search(r"\.mongodb\.net(?=[:/,?]|$)", value))
