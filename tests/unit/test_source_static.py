"""Static sites: a container of the built files and a file server."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from rehost.project import config
from rehost.run.errors import UsageError
from rehost.source import blueprint, init, init_write

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


def test_the_only_service_is_a_site_of_one_page(tmp_path: Path) -> None:
    made = init.draft(init.find(app(tmp_path, SITE)))
    init_write.write(made)
    lines = (tmp_path / "Dockerfile").read_text().splitlines()
    assert "COPY --from=build /app/dist /srv" in lines
    assert 'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile"]' in lines
    (write,) = [line for line in lines if "Caddyfile" in line and line.startswith("RUN ")]
    target = tmp_path / "Caddyfile"
    command = write.removeprefix("RUN ").replace("/etc/caddy/Caddyfile", shlex.quote(str(target)))
    subprocess.run(["sh", "-c", command], check=True)
    assert target.read_text() == ":8080 {\nroot * /srv\ntry_files {path} /index.html\nfile_server\n}\n"
    assert config.load(tmp_path).app == "site"
    told = {each.field: each.how for each in made.report.differently}
    assert {"service.runtime", "service.buildCommand", "service.staticPublishPath", "service.routes"} <= set(
        told
    )
    assert [each.field for each in made.report.left] == ["service.headers"]


def test_other_routes_are_left_and_the_files_alone_are_served(tmp_path: Path) -> None:
    text = (
        SITE.replace("type: web", "type: static_site")
        .replace("    runtime: static\n", "")
        .replace("rewrite", "redirect")
    )
    made = init.draft(init.find(app(tmp_path, text)))
    assert made.image is not None
    assert '"file-server"' in made.image.dockerfile
    assert {each.field for each in made.report.left} == {"service.headers", "service.routes"}
    assert any("try_files" in note for note in made.report.notes)


def test_a_web_service_comes_before_a_site() -> None:
    both = SITE + "  - {type: web, name: api, runtime: docker}\n"
    assert blueprint.parse(both).settings.app == "api"
    assert blueprint.parse(both, "site").settings.publish == "./dist"
    with pytest.raises(UsageError, match="it has no web service"):
        blueprint.parse(SITE + "  - {type: web, name: two, runtime: static}\n")
