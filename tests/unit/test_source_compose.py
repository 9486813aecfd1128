"""What stands beside the app in a compose file: processes of its image, and services of other images."""

from __future__ import annotations

from pathlib import Path

import yaml

from rehost.project import config
from rehost.source import compose, init
from test_source_doors import lists, lost, written

BESIDE = """
services:
  app:
    image: ghcr.io/me/shop:1.2
    ports: ["8000:8000"]
    environment: {DATABASE_URL: "postgres://shop:pa$$s@db:5432/shop", POSTGRES_DB: shop, MODE: "${MODE}"}
  worker:
    image: ghcr.io/me/shop:1.2
    command: sh -c "work $$HOME"
  twin: {image: "ghcr.io/me/shop:1.2"}
  db:
    image: postgres:16
    ports: ["5432:5432"]
    restart: always
    environment: {POSTGRES_PASSWORD: "pa$$s", POSTGRES_DB: other, MODE: x}
    volumes: ["pg:/var/lib/postgresql/data", "./seed.sql:/docker-entrypoint-initdb.d/seed.sql"]
    healthcheck: {test: [CMD-SHELL, "pg_isready -U shop"], interval: 5s}
    deploy: {resources: {limits: {memory: 512M}}}
  cache: {image: redis}
  My_Queue: {image: "rabbitmq:4"}
  front: {build: ./front}
"""


def test_what_stands_beside_the_app_in_a_compose_file(tmp_path: Path) -> None:
    found = compose.parse(BESIDE, "app")
    settings = found.settings
    assert (settings.image, settings.dockerfile, settings.port) == ("ghcr.io/me/shop:1.2", None, 8000)
    assert settings.processes == {"worker": 'sh -c "work $HOME"'}
    assert settings.services == {
        "db": {
            "image": "postgres:16",
            "volumes": ["pg:/var/lib/postgresql/data"],
            "env": ["POSTGRES_PASSWORD"],
            "memory": "512MB",
            "health": "sh -c 'pg_isready -U shop'",
        }
    }
    values = {key: value.reveal() for key, value in settings.variables.items()}
    assert values == {
        "DATABASE_URL": "postgres://shop:pa$s@db:5432/shop",
        "POSTGRES_DB": "shop",
        "POSTGRES_PASSWORD": "pa$s",
    }
    told = lists(found)
    assert lost(yaml.safe_load(BESIDE), found) == []
    (how,) = [each.how for each in found.differently if each.field == "services.db"]
    for part in ("ports", "seed.sql", "POSTGRES_DB", "MODE", "healthcheck.interval"):
        assert part in how
    assert {told[f"services.{name}"] for name in ("twin", "cache", "My_Queue", "front")} == {"left"}
    (cache,) = [each.why for each in found.left if each.field == "services.cache"]
    assert "says no version" in cache
    written(BESIDE, "docker-compose.yml", tmp_path)
    made = init.draft(init.find(tmp_path), "app")
    project = config.parse(made.text, tmp_path)
    assert (project.build.image, project.run.port) == ("ghcr.io/me/shop:1.2", 8000)
    assert project.services["db"].env == ("POSTGRES_PASSWORD",)
    assert "[services.db]" in made.text and "#[services.redis]" in made.text
    assert "docker login ghcr.io" in str(made.report.as_json())
