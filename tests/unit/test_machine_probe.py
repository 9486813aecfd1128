"""The probe: what the recorded answer of a real machine means, and the script itself, run by a real sh."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_state import APP, SERVING, serving
from rehost.machine import probe
from rehost.machine.probe import PACKAGES, Health, Unit, parse

GIB = 2**30
MARK = "@@rehost-probe"


def section(text: str, name: str, *lines: str) -> str:
    """The text with one section's lines replaced."""
    before, _, rest = text.partition(f"{MARK} {name}\n")
    _, _, after = rest.partition(f"{MARK} ")
    return "\n".join([before.rstrip("\n"), f"{MARK} {name}", *lines, f"{MARK} {after}"]).lstrip("\n")


def texts(text: str, changes: Mapping[str, str | None]) -> str:
    """The text with files replaced, "" for an empty one; None takes all files away that match."""
    found = text.partition(f"{MARK} cpus\n")[0].splitlines()[1:]
    kept = [line for line in found if not any(re.match(name, line) for name in changes)]
    new = [f"{name}:{line}" for name, content in changes.items() for line in (content or "").splitlines()]
    return section(text, "texts", *kept, *new)


def test_a_machine_that_serves() -> None:
    state = parse(SERVING)
    assert (state.os_id, state.os_version, state.os_name) == (
        "debian",
        "12",
        "Debian GNU/Linux 12 (bookworm)",
    )
    assert (state.cpus, state.memory, state.swap_files) == (2, GIB, ("/var/lib/rehost/swap",))
    assert 15 * GIB < state.disk_free < state.disk < 20 * GIB
    assert set(state.packages) == set(PACKAGES)
    assert state.packages["docker.io"] == "20.10.24+dfsg1-1+deb12u1+b6"
    assert json.loads(state.files["/etc/docker/daemon.json"] or b"")["live-restore"] is True
    assert state.unit("docker.service") == Unit("active", "running", "enabled", "success")
    assert state.unit("caddy.service") == Unit("inactive", "dead", "masked", "success")
    assert state.unit("nobody-knows.service") == Unit()
    assert state.bootstrap == {"version": "e34722bc060be1d9", "result": "done", "step": "ready"}
    assert state.platform == "linux/amd64"
    (container,) = state.containers
    assert (container.name, container.app, container.release) == (f"{APP}-1", APP, 1)
    assert (container.state, container.ports) == ("running", (20000,))
    assert state.container(APP, 1) is container
    assert state.container("other", 1) is None
    (image,) = state.images
    assert image.id == container.image
    assert image.tags == (f"rehost/{APP}:b8e50084af5e",)
    assert state.ports == {APP: (20000, 20001)}
    assert (state.live_slot, state.current) == ("a", 1)
    assert state.health is not None
    assert (state.health.status, state.health.seconds) == (200, 0.009713)
    assert state.health.text.startswith('{"status":"ok"')
    release = state.release(1)
    assert release is not None
    assert (release.state, release.record["context"]) == ("live", image.context)
    assert state.release(2) is None


def test_before_the_first_release() -> None:
    text = SERVING
    for name, lines in {
        "containers": ["[]", ""],
        "images": ["[]", ""],
        "caddy": ["null", ""],
        "health": [],
    }.items():
        text = section(text, name, *lines)
    state = parse(texts(text, {f"/var/lib/rehost/{APP}/": None}))
    assert (state.containers, state.images, state.releases, state.health) == ((), (), (), None)
    assert (state.live_slot, state.current, dict(state.ports)) == ("", 0, {})
    assert state.caddy == {}  # it runs, and has no configuration yet


def test_docker_and_caddy_absent() -> None:
    text = SERVING
    for name in ("docker", "containers", "images", "caddy"):
        text = section(text, name, "")
    state = parse(section(text, "packages", "ca-certificates ii  20250419~deb12u2 all", "curl un  "))
    assert (state.platform, state.containers, state.images, state.caddy) == ("", (), (), None)
    assert dict(state.packages) == {"ca-certificates": "20250419~deb12u2"}


@pytest.mark.parametrize(
    ("debian", "docker"), [("amd64", "linux/amd64"), ("arm64", "linux/arm64"), ("armhf", "linux/arm")]
)
def test_the_platform_is_named_as_docker_does(debian: str, docker: str) -> None:
    assert parse(section(SERVING, "packages", f"curl ii  7.88.1-10 {debian}")).platform == docker


def test_a_docker_that_answers_with_an_error_has_no_containers() -> None:
    assert parse(section(SERVING, "containers", '{"message":"layer does not exist"}')).containers == ()


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("docker.io ii  1.2", "1.2"),
        ("docker.io hi  1.2", "1.2"),  # apt-mark hold
        ("docker.io un ", None),
        ("docker.io rc  1.2", None),  # removed, its configuration is left
        ("docker.io iU  1.2", None),  # unpacked, not configured
        ("docker.io iF  1.2", None),  # half configured
    ],
)
def test_states_of_a_package(line: str, version: str | None) -> None:
    assert parse(section(SERVING, "packages", line)).packages.get("docker.io") == version


def test_units_that_systemd_does_not_know() -> None:
    units = parse(
        section(
            SERVING,
            "units",
            "Result=success",
            "Id=docker.service",
            "ActiveState=failed",
            "SubState=failed",
            "UnitFileState=",
            "",
            "",
            "ActiveState=active",  # a block without a name is nobody's
            "",
            "Id=odd@name\\x2d1.service",
            "ActiveState=reloading",
        )
    ).units
    assert units["docker.service"] == Unit("failed", "failed", "", "success")
    assert not units["docker.service"].running
    assert units["odd@name\\x2d1.service"].running
    assert len(units) == 2


def test_files() -> None:
    daemon, auto, journald = probe.FILES[:3]
    found = parse(texts(SERVING, {daemon: None, auto: "", journald: "a: b\n\n@@c\td\n"})).files
    assert found[daemon] is None
    assert found[auto] is None  # an empty one is as good as none
    assert found[journald] == b"a: b\n\n@@c\td\n"
    assert set(found) == set(probe.FILES)


def test_a_mount_point_with_a_space() -> None:
    state = parse(section(SERVING, "disk", "Mounted on 1B-blocks Avail", "/srv/my disk 100 50"))
    assert (state.disk, state.disk_free) == (100, 50)


def test_containers_of_other_apps_and_without_a_port() -> None:
    listed = [
        {
            "Id": "1",
            "Names": ["/shop-3"],
            "Labels": {"rehost.app": "shop", "rehost.release": "3"},
            "Ports": [],
        },
        {"Id": "2", "Names": None, "Labels": None, "State": "created", "Ports": [{"PrivatePort": 8080}]},
        # By hand, from the app's image.
        {"Id": "3", "Names": ["/console"], "Labels": {"rehost.app": "shop"}, "State": "running", "Ports": []},
    ]
    shop, nameless, by_hand = parse(section(SERVING, "containers", json.dumps(listed))).containers
    assert (shop.app, shop.release, shop.ports) == ("shop", 3, ())
    assert (nameless.name, nameless.app, nameless.release, nameless.ports) == ("", "", 0, ())
    assert (by_hand.name, by_hand.app) == ("console", "")


def test_releases_come_in_the_order_of_their_numbers() -> None:
    home = f"/var/lib/rehost/{APP}/releases"
    kept = {
        f"{home}/{n}/{file}": text
        for n in (10, 9, 2)
        for file, text in (("state", "live"), ("release.json", "{}"))
    }
    del kept[f"{home}/9/state"]
    state = parse(texts(SERVING, {f"{home}/1/": None, **kept}))
    assert [(r.number, r.state) for r in state.releases] == [(2, "live"), (9, "prepared"), (10, "live")]


@given(st.integers(min_value=0, max_value=len(SERVING) - len(f"{MARK} end\n")))
def test_a_probe_that_broke_off_is_never_taken_for_a_whole_one(length: int) -> None:
    with pytest.raises((ValueError, KeyError, IndexError)):
        parse(SERVING[:length])


@given(st.text(st.characters(blacklist_characters="\r", blacklist_categories=["Cs"]), max_size=80))
def test_whatever_the_app_answers(text: str) -> None:
    # The mark is drawn anew for each probe, so the answer cannot hold it.
    state = parse(section(SERVING, "health", *text.split("\n"), "200 0.5"))
    assert state.health == Health(200, 0.5, text.strip())
    assert state.current == 1


# -- the script --------------------------------------------------------------------------------------------


def run(tmp_path: Path, **programs: str) -> str:
    """What the script says on this computer, where these programs (sh) stand in for the system's."""
    programs = {"curl": "exit 7", "dpkg-query": "exit 1", "systemctl": "exit 1", **programs}
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, body in programs.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    home = tmp_path / "rehost"
    script = (
        probe.script(APP, "/health?a=1&b=it's", "api.example.com")
        .replace("/var/lib/rehost", str(home))
        .replace("/run/rehost-probe", str(tmp_path / "run"))
    )
    done = subprocess.run(
        ["sh", "-s"],
        input=script.replace("--output=target,size,avail /var/lib", "--output=target,size,avail /"),
        env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_script_where_nothing_is_installed(tmp_path: Path) -> None:
    state = parse(run(tmp_path))
    assert state.memory > 0
    assert state.disk >= state.disk_free > 0
    assert state.cpus > 0
    assert (dict(state.packages), state.platform, state.caddy, state.releases) == ({}, "", None, ())
    assert (dict(state.units), dict(state.bootstrap), state.current, state.health) == ({}, {}, 0, None)
    assert set(state.files) == set(probe.FILES)
    assert state.os_id


def test_the_script_reads_what_releases_left(tmp_path: Path) -> None:
    app = tmp_path / "rehost" / APP
    for number, record in ((1, '{"number":\n1}'), (2, '{"number": 2}')):
        (app / "releases" / str(number)).mkdir(parents=True)
        (app / "releases" / str(number) / "release.json").write_text(record)
    (app / "releases/1/state").write_text("replaced\n")
    (app / "releases/.new").mkdir()  # cut off while it was written
    (app / "releases/.new/release.json").write_text("{")
    (app / "live").mkdir()
    (app / "live/a").write_text("1\n")
    (app / "live/b").write_text("2\n")
    (app / "ports").write_text("20000 20001\n")
    (tmp_path / "rehost/shop").mkdir()
    (tmp_path / "rehost/shop/ports").write_text("20002 20003\n")
    curl = f"""case "$*" in
  *"Host: api.example.com"*"http://127.0.0.1:80/health?a=1&b=it's")
    printf 'body\\r\\n{MARK} live\\na 7\\n\\n503 0.25\\n' ;;
  *localhost:2019*) # what -w of the three requests before it says
    for name in $(printf %s "$*" | grep -o '@@[0-9a-f]* [a-z]*' | tr ' ' _); do echo "$name" | tr _ ' '; done
    echo '{{"apps":{{}}}}' ;;
esac"""
    state = parse(run(tmp_path, curl=curl))
    assert (state.live_slot, state.current) == ("b", 2)  # b wins, for the proxy too
    assert [(r.number, r.state, r.record) for r in state.releases] == [
        (1, "replaced", {"number": 1}),
        (2, "prepared", {"number": 2}),
    ]
    assert state.ports == {APP: (20000, 20001), "shop": (20002, 20003)}
    assert state.caddy == {"apps": {}}
    assert state.health == Health(503, 0.25, f"body\n{MARK} live\na 7")


def test_whether_a_drain_goes_on_is_asked_before_what_runs(tmp_path: Path) -> None:
    """The other way round, what it stops in between looks like something that nobody stops."""
    after = tmp_path / "rehost" / APP / "release/after"
    after.parent.mkdir(parents=True)
    after.touch()
    run(
        tmp_path,
        systemctl=f"sleep 0.2; echo units >>{tmp_path}/order",
        curl=f'case "$*" in *docker.sock*) echo containers >>{tmp_path}/order ;; esac',
    )
    assert (tmp_path / "order").read_text() == "units\ncontainers\n"


def test_no_section_is_left_out(tmp_path: Path) -> None:
    def names(text: str) -> list[str]:
        mark = text.partition(" ")[0]
        return [line.removeprefix(mark) for line in text.splitlines() if line.startswith(mark)]

    asked = {" containers", " images", " tagged", " caddy"}  # curl itself begins these
    assert names(run(tmp_path)) == [name for name in names(SERVING) if name not in asked]
    assert serving().current == 1


def test_each_script_has_a_mark_of_its_own() -> None:
    assert probe.script(APP).splitlines()[0] != probe.script(APP).splitlines()[0]
