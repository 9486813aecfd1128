"""Static sites: a container of the built files and a file server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprint_leaves import lost
from rehost.project import config
from rehost.run.errors import UsageError
from rehost.source import blueprint, init, init_write, native_caddy, yaml_text

SITE = """services:
  - type: web
    name: site
    runtime: static
    buildCommand: npm ci && npm run build
    staticPublishPath: ./dist
    headers: [{path: /*, name: X-Frame-Options, value: DENY}]
    routes: [{type: rewrite, source: /*, destination: /index.html}]
"""


def app(directory: Path, text: str) -> Path:
    (directory / "render.yaml").write_text(text)
    (directory / "package.json").write_text("{}")
    (directory / "package-lock.json").write_text("")
    return directory


def caddyfile(directory: Path) -> list[str]:
    """What the Dockerfile's RUN writes, by a real shell."""
    text = (directory / "Dockerfile").read_text()
    (run,) = re.findall(r"^RUN (printf .*?)>/etc/caddy/Caddyfile$", text, re.DOTALL | re.MULTILINE)
    target = directory / "Caddyfile"
    subprocess.run(["sh", "-c", f"{run}>{shlex.quote(str(target))}"], check=True)
    return target.read_text().splitlines()


def test_the_only_service_is_a_site_of_one_page(tmp_path: Path) -> None:
    made = init.draft(init.find(app(tmp_path, SITE)))
    init_write.write(made)
    lines = (tmp_path / "Dockerfile").read_text().splitlines()
    assert "COPY --from=build /app/dist /srv" in lines
    assert 'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile"]' in lines
    written = caddyfile(tmp_path)
    assert written[0] == ":8080 {"
    assert 'header @h0 X-Frame-Options "DENY"' in written
    assert written[written.index("handle @r0 {") + 1] == "rewrite * /index.html"
    assert config.load(tmp_path).app == "site"
    told = {each.field for each in made.report.differently}
    assert {"service.runtime", "service.buildCommand", "service.staticPublishPath"} <= told
    assert {"service.routes.0", "service.headers.0"} <= told
    assert made.report.left == ()


def test_a_rule_that_is_not_understood_takes_no_other_with_it(tmp_path: Path) -> None:
    text = (
        SITE.replace("type: web", "type: static_site")
        .replace("    runtime: static\n", "")
        .replace("routes: [", "routes: [{type: redirect, source: '/a b', destination: /}, ")
        .replace("value: DENY", "value: 'a{b}'")
    )
    made = init.draft(init.find(app(tmp_path, text)))
    assert {each.field for each in made.report.left} == {"service.headers.0", "service.routes.0"}
    init_write.write(made)
    assert "rewrite * /index.html" in caddyfile(tmp_path)


@pytest.mark.parametrize(
    ("kind", "source", "destination", "pattern", "does"),
    [
        ("redirect", "/home", "/", "^/home$", ["redir * / 301"]),
        ("redirect", "/page/*", "/posts/page/*", "^/page/(.*)$", ["redir * /posts/page/{re.r0.1} 301"]),
        (
            *("redirect", "/u/:user/:id", "https://b.example/:id?of=:user", "^/u/([^/]+)/([^/]+)$"),
            ["redir * https://b.example/{re.r0.2}?of={re.r0.1} 301"],
        ),
        (
            *("rewrite", "/api/*", "https://api.example.com/v1/*", "^/api/(.*)$"),
            [
                "rewrite * /v1/{re.r0.1}",
                *("reverse_proxy https://api.example.com {", "header_up Host {upstream_hostport}", "}"),
            ],
        ),
    ],
)
def test_a_rule_as_caddy_has_it(
    kind: str, source: str, destination: str, pattern: str, does: list[str]
) -> None:
    rule = native_caddy.route({"type": kind, "source": source, "destination": destination})
    assert rule is not None
    lines = native_caddy.lines(8080, [rule], [])
    assert f"path_regexp r0 {pattern}" in lines
    start = lines.index("handle @r0 {") + 1
    assert lines[start : start + len(does) + 1] == [*does, "}"]


@pytest.mark.parametrize(
    ("path", "fits", "not_this"),
    [
        ("/*", "/a/b", ""),
        ("/blog/*", "/blog/latest-post/", "/blogs/x"),
        ("/**/*", "/blog/", "/blog"),
        ("/*.css", "/tokens.css", "/assets/theme.css"),
        ("/**/*.css", "/assets/theme.css", "/tokens.css"),
    ],
)
def test_a_headers_path_as_render_documents_it(path: str, fits: str, not_this: str) -> None:
    found = native_caddy.header({"path": path, "name": "X-A", "value": 'a "b"'})
    assert found is not None
    lines = native_caddy.lines(80, [], [found])
    assert 'header @h0 X-A "a \\"b\\""' in lines
    (pattern,) = [line.rpartition(" ")[2] for line in lines if line.startswith("@h0 path_regexp ")]
    assert re.match(pattern, fits) and not (not_this and re.match(pattern, not_this))


_PARTS = st.sampled_from(
    ["", "/", "/*", "/a/:b/*", "a b", "{x}", 'say "x"', "https://a.example/*", "redirect", "rewrite"]
)
_RULES = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "source", "destination", "path", "name", "value", "more"]),
        _PARTS | st.none(),
    )
    | _PARTS,
    max_size=4,
)


@given(_RULES | _PARTS, _RULES | _PARTS)
def test_no_rule_is_lost_and_each_line_is_one(routes: object, headers: object) -> None:
    service = {"type": "web", "runtime": "static", "name": "s", "routes": routes, "headers": headers}
    text = json.dumps({"services": [service]})  # JSON is YAML
    found = blueprint.parse(text)
    document, _ = yaml_text.read(text, "render.yaml")
    assert isinstance(document, dict) and isinstance(document["services"], list)
    (chosen,) = document["services"]
    assert isinstance(chosen, dict)
    assert lost(document, chosen, found) == []
    lines = native_caddy.lines(80, found.settings.routes, found.settings.headers)
    assert not any("\n" in line for line in lines)
    # Braces that open a block stand at the end of a line, and each is closed.
    assert sum(line.endswith("{") for line in lines) == lines.count("}")


def test_a_web_service_comes_before_a_site() -> None:
    both = SITE + "  - {type: web, name: api, runtime: docker}\n"
    assert blueprint.parse(both).settings.app == "api"
    assert blueprint.parse(both, "site").settings.publish == "./dist"
    with pytest.raises(UsageError, match="it has no web service"):
        blueprint.parse(SITE + "  - {type: web, name: two, runtime: static}\n")
