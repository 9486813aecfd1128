"""Images that are no good: the release before them serves all the time, and the output says what is wrong with them."""

from __future__ import annotations

import os

import pytest

from load import asked_all_the_time
from suite import Laptop, until
from tiny import body, set_env

GOOD = "the good one"
AFTER = os.environ.get("REHOST_BREAKS_AFTER", "4")  # seconds


@pytest.fixture(scope="module")
def good(tiny: Laptop) -> Laptop:
    config = tiny.directory / "rehost.toml"
    config.write_text(config.read_text().replace('health_deadline = "20s"', 'health_deadline = "4s"'))
    set_env(tiny.directory, VALUE=GOOD)
    tiny.run("deploy")
    return tiny


def refused(laptop: Laptop, *words: str, also: bytes = b"") -> None:
    """A deploy fails, and its output has the words; the good release serves before, all the while, and after.

    also: what is answered besides while the broken one has the traffic. Then the requests of the second in which it
    dies get Caddy's 502, and no others.
    """
    before = laptop.run("status", "--json").result
    with asked_all_the_time(before["address"], body(GOOD), also) as wrong:
        failed = laptop.run("deploy", code=1)
    assert set(wrong) <= ({"502 "} if also else set()), failed.said
    for word in (*words, f"release {before['release']}", "what to do"):
        assert word in failed.said, f"{word!r} is not in\n{failed.said}"
    after = laptop.run("status", "--json").result
    assert after["release"] == before["release"]
    # Neither a container nor a claim is left of it.
    running = "docker ps --all --format '{{.Names}} {{.Status}}' | grep -c ' Up '"
    until(lambda: laptop.inside(running).strip() == "1", "one container runs")
    set_env(laptop.directory, VALUE=GOOD)


def test_an_image_that_cannot_start(good: Laptop) -> None:
    file = good.directory / "Dockerfile"
    text = file.read_text()
    file.write_text(text.replace('["python", "-u", "app.py"]', '["/no/such/program"]'))
    try:
        failed = good.run("deploy", code=1)
        assert "Docker did not start the container" in failed.said
        assert "/no/such/program" in failed.said and "no such file" in failed.said
    finally:
        file.write_text(text)


def test_an_image_that_never_answers(good: Laptop) -> None:
    set_env(good.directory, VALUE="second", MODE="silent")
    refused(good, "not healthy within 4s", "/health gave no answer", "starting as silent")


def test_an_image_that_eats_its_memory(good: Laptop) -> None:
    set_env(good.directory, VALUE="second", MODE="hungry")
    refused(good, "ran out of its memory limit", "starting as hungry")


GREEDY = """import time
held = []
while True:
    held.append(b"x" * (16 << 20))
    time.sleep(0.01)
"""


def test_a_build_that_eats_the_machine_s_memory(good: Laptop) -> None:
    file = good.directory / "Dockerfile"
    text = file.read_text()
    file.write_text(text.replace("CMD", "RUN python greedy.py\nCMD"))
    (good.directory / "greedy.py").write_text(GREEDY)
    try:
        refused(good, "was stopped: it left the machine", "MB of memory and swap", 'on = "here"')
    finally:
        file.write_text(text)
        (good.directory / "greedy.py").unlink()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("dies", ("ended by itself with status 9", "bye: the app dies in the middle of its work")),
        ("hungry", ("ran out of its memory limit",)),
    ],
)
def test_an_image_that_breaks_after_the_switch(good: Laptop, mode: str, words: tuple[str, ...]) -> None:
    """It has the traffic for some seconds; then the release before it has it again."""
    config = good.directory / "rehost.toml"
    text = config.read_text()
    config.write_text(text.replace("[run]\n", '[run]\nwatch_for = "15s"\n'))
    set_env(good.directory, VALUE="second", MODE=mode, AFTER=AFTER)
    try:
        refused(
            good, *words, "after the switch", "the traffic is back on release", also=body("second", mode=mode)
        )
    finally:
        config.write_text(text)
