"""Render's API: every page, within the rate limit, errors with a cure, and no value in any text."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import keyring
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked

from rehost.cloud.lean_httpx import httpx
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import render_api, render_export
from rehost.source.render_api import NotAtRender, Render, RenderError
from render_fake import KEY, FakeRender, group, served, variables, web

T = TypeVar("T")


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paused: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        end = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, end)


def asked(
    fake: FakeRender,
    question: Callable[[Render], Awaitable[T]],
    *,
    key: str = KEY,
    clock: Clock | None = None,
    said: list[str] | None = None,
    wire: bool = True,
) -> T:
    """What the API answers to one question: on loopback, or within this process, where time stands still meanwhile."""
    clock = clock or Clock()
    fake.clock = clock

    async def run(host: str) -> T:
        async with Render(
            Secret(key),
            environ={"RENDER_HOST": host},
            progress=(said if said is not None else []).append,
            pause=clock.pause,
            clock=clock,
            transport=None if wire else httpx.MockTransport(answer),
        ) as api:
            return await question(api)

    def answer(request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode()
        status, headers, body = fake.answer(target, request.headers["Authorization"])
        return httpx.Response(status, headers=headers, content=body)

    if not wire:
        return asyncio.run(run("http://127.0.0.1/v1"))
    with served(fake) as host:
        return asyncio.run(run(host))


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_every_page_of_a_list(count: int) -> None:
    fake = FakeRender(services=[web(number) for number in range(count)])
    found = asked(fake, render_export.every_service)
    assert [each["id"] for each in found] == [f"srv-a{number}" for number in range(count)]
    assert len(fake.asked) == count // 100 + 1
    assert all("limit=100" in each and "includePreviews=false" in each for each in fake.asked)


def test_a_list_whose_items_come_bare_and_one_that_goes_on_without_saying_where() -> None:
    groups = [group(number, "2025", []) for number in range(99)]
    assert len(asked(FakeRender(groups=groups), lambda api: api.items("envGroup", "env-groups"))) == 99
    groups.append(group(99, "2025", []))
    with pytest.raises(RenderError, match="goes on after 100 items") as caught:
        asked(FakeRender(groups=groups), lambda api: api.items("envGroup", "env-groups"))
    assert caught.value.cure
    groups.append(group(100, "2025", []))
    wrapped = FakeRender(groups=groups, wrapped_groups=True)
    assert len(asked(wrapped, lambda api: api.items("envGroup", "env-groups"))) == 101


def test_250_services_of_150_variables_within_the_rate_limit() -> None:
    """The largest workspace of the brief: complete, never over the limit, and the waits are told."""
    services = [web(number) for number in range(250)]
    values = {
        each["id"]: [{"key": f"V{at}", "value": f"https://old.onrender.com/{at}"} for at in range(150)]
        for each in services
    }
    fake = FakeRender(services=services, variables=values)
    clock = Clock()
    said: list[str] = []

    async def question(api: Render) -> list[render_export.Mention]:
        return await render_export.mentions(api, ["old.onrender.com"], "", said.append)

    found = asked(fake, question, clock=clock, said=said, wire=False)
    assert len(found) == 250 * 150
    assert {each.variable for each in found} == {f"V{at}" for at in range(150)}
    assert fake.refused == 0
    assert len(fake.asked) == 3 + 1 + 250 * 2
    assert fake.most_in_a_window <= 400
    assert clock.now == 60  # one window was waited out
    assert any(each.startswith("Render's rate limit is reached: going on in") for each in said)
    assert "looking through the variables at Render: 250 of 250" in said
    assert "onrender.com/7" not in f"{said}"


def test_after_an_error_nothing_more_is_asked() -> None:
    services = [web(number) for number in range(90)]
    refusal = (403, b'{"message": "no"}')
    fake = FakeRender(
        services=services, failures=[(200, json.dumps([{"service": each} for each in services]).encode())]
    )
    fake.failures += [(200, b"[]"), *[refusal] * 90]
    said: list[str] = []

    async def question(api: Render) -> int:
        with pytest.raises(RenderError, match="may not read that"):
            await render_export.mentions(api, ["x"], "", said.append)
        for _ in range(20):  # the others would go on meanwhile
            with contextlib.suppress(RenderError):
                await api.get("services", "srv-a1")
        return len([each for each in fake.asked if "env-vars" in each])

    assert asked(fake, question) < 90 // 2  # but for those under way


def test_a_limit_that_somebody_else_uses_up_is_waited_out() -> None:
    fake = FakeRender(services=[web(1)], limit=3)
    clock = Clock()

    async def question(api: Render) -> list[Any]:
        # Somebody else with the same key.
        for _ in range(3):
            fake.answer("/v1/services", f"Bearer {KEY}")
        return [await api.get("services", "srv-a1") for _ in range(5)]

    assert len(asked(fake, question, clock=clock)) == 5
    assert fake.refused == 1
    assert clock.now >= 60


def test_a_fault_that_passes_is_asked_again() -> None:
    fake = FakeRender(services=[web(1)], failures=[(500, b"<html>"), (503, b"{}"), (502, b"")])
    clock = Clock()
    assert asked(fake, lambda api: api.get("services", "srv-a1"), clock=clock)["id"] == "srv-a1"
    assert clock.paused == [1.0, 2.0, 4.0]


def test_a_fault_that_stays_is_told_with_its_cure() -> None:
    fake = FakeRender(failures=[(503, b"{}")] * render_api.ATTEMPTS)
    with pytest.raises(RenderError, match=r"does not work at the moment \(503\)") as caught:
        asked(fake, lambda api: api.get("services", "srv-a1"))
    assert len(fake.asked) == render_api.ATTEMPTS
    assert (caught.value.status, caught.value.retryable) == (503, True)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 406, 409, 410, 418, 429, 500])
def test_each_error_has_a_cause_a_place_and_a_cure(status: int) -> None:
    body = json.dumps({"id": "req", "message": "said so", "code": "c"}).encode()
    fake = FakeRender(failures=[(status, body)] * render_api.ATTEMPTS)
    with pytest.raises(RenderError, match=rf"\({status}: said so\)") as caught:
        asked(fake, lambda api: api.get("services", "srv-a1"))
    assert caught.value.cure
    assert caught.value.where.endswith("/v1/services/srv-a1")
    assert isinstance(caught.value, NotAtRender) == (status in (404, 410))
    assert KEY not in str(caught.value)


def test_a_wrong_key() -> None:
    with pytest.raises(RenderError, match="does not know the key in RENDER_API_KEY") as caught:
        asked(FakeRender(), render_export.every_service, key="rnd_wronghunter2")
    assert "API Keys" in caught.value.cure
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>hunter2</html>", b"[]", b"3", b"\xff", b'["hunter2"]'])
def test_an_answer_that_is_not_renders(body: bytes) -> None:
    with pytest.raises(RenderError, match="not what Render's API gives") as caught:
        asked(FakeRender(failures=[(200, body)]), lambda api: api.get("services", "srv-a1"))
    assert "hunter2" not in str(caught.value)
    if body != b"[]":  # an empty list is a good answer here
        with pytest.raises(RenderError, match="not what Render's API gives") as caught:
            asked(FakeRender(failures=[(200, body)]), render_export.every_service)
        assert "hunter2" not in str(caught.value)


def test_nobody_answers() -> None:
    clock = Clock()

    async def run() -> None:
        async with Render(
            Secret(KEY), environ={"RENDER_HOST": "http://127.0.0.1:1/v1"}, pause=clock.pause, clock=clock
        ) as api:
            await api.get("services")

    with pytest.raises(RenderError, match=r"no answer from 127\.0\.0\.1:1") as caught:
        asyncio.run(run())
    assert "network" in caught.value.cure
    assert len(clock.paused) == render_api.ATTEMPTS - 1


def test_an_answer_that_is_slow_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_api, "TIMEOUT", 0.2)
    fake = FakeRender(services=[web(1)], slow=[60, 60])
    clock = Clock()
    assert asked(fake, lambda api: api.get("services", "srv-a1"), clock=clock)["id"] == "srv-a1"
    assert clock.paused == [1.0, 2.0]
    assert len(fake.asked) == 3


def test_an_answer_that_comes_too_late() -> None:
    late = httpx.MockTransport(_too_late)
    clock = Clock()

    async def run() -> None:
        async with Render(Secret(KEY), environ={}, transport=late, pause=clock.pause, clock=clock) as api:
            await api.get("services")

    with pytest.raises(RenderError, match=r"no answer from api\.render\.com: ReadTimeout"):
        asyncio.run(run())


def _too_late(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("", request=request)


@pytest.mark.parametrize("url", ["http://api.render.com/v1", "api.render.com", "ftp://x", "https://"])
def test_the_key_goes_to_no_address_in_clear(url: str) -> None:
    with pytest.raises(UsageError, match="RENDER_HOST"):
        Render(Secret(KEY), environ={"RENDER_HOST": url})


def test_finding_a_service() -> None:
    fake = FakeRender(services=[web(1, name="api"), web(2, name="api"), web(3, name="shop")])
    assert asked(fake, lambda api: render_export.find(api, "shop"))["id"] == "srv-a3"
    assert asked(fake, lambda api: render_export.find(api, "srv-a2"))["id"] == "srv-a2"
    with pytest.raises(UsageError, match=r'2 services are called "api" there') as caught:
        asked(fake, lambda api: render_export.find(api, "api"))
    assert "srv-a1 api (web), srv-a2 api (web)." in caught.value.cure
    with pytest.raises(UsageError, match=r'no services are called "nix"') as caught:
        asked(fake, lambda api: render_export.find(api, "nix"))
    assert "srv-a3 shop (web)" in caught.value.cure
    with pytest.raises(UsageError, match="3 of the 3 services"):
        asked(fake, lambda api: render_export.find(api, ""))
    only = FakeRender(services=[web(1), web(2, type="background_worker")])
    assert asked(only, lambda api: render_export.find(api, ""))["id"] == "srv-a1"
    with pytest.raises(UsageError, match="none of the 0") as caught:
        asked(FakeRender(), lambda api: render_export.find(api, ""))
    assert "sees no service" in caught.value.cure


def test_many_services_are_cut_in_an_error() -> None:
    fake = FakeRender(services=[web(number) for number in range(100)])
    with pytest.raises(UsageError) as caught:
        asked(fake, lambda api: render_export.find(api, "nix"))
    assert caught.value.cure.endswith("and 60 more.")


def test_an_export_is_complete_and_holds_its_values_as_secrets() -> None:
    fake = FakeRender(
        services=[
            web(1, name="api"),
            web(2, name="mailer", type="background_worker"),
            web(3, name="other", repo="https://github.com/example/other"),
        ],
        variables={
            "srv-a1": variables(OWN="own-hunter2", SHARED="own-hunter2", DB="postgres://u:hunter2@dpg-1-a/d")
        },
        files={"srv-a1": [{"name": "key.pem", "content": "hunter2 file"}]},
        domains={"srv-a1": [{"id": "cdm-1", "name": "api.example.com", "redirectForName": ""}]},
        deploys={
            "srv-a1": [
                {"id": "dep-2", "status": "build_failed", "commit": {"id": "bad"}},
                {"id": "dep-1", "status": "live", "commit": {"id": "good"}},
            ]
        },
        groups=[
            group(1, "2025-02-01T00:00:00Z", ["srv-a1"], SHARED="new", G="new-hunter2"),
            group(2, "2025-01-01T00:00:00Z", ["srv-a1", "srv-a2"], SHARED="old", G="old-hunter2", OLD="1"),
            group(3, "2025-03-01T00:00:00Z", ["srv-a2"], G="not-ours"),
        ],
        postgres=[{"id": "dpg-1", "name": "main"}, {"id": "dpg-2", "name": "unused"}],
        connections={
            "dpg-1": {
                "password": "hunter2",
                "internalConnectionString": "postgres://u:hunter2@dpg-1-a/d",
                "externalConnectionString": "postgres://u:hunter2@dpg-1-a.oregon.example/d",
            }
        },
    )
    said: list[str] = []

    async def question(api: Render) -> render_export.Live:
        return await render_export.export(api, await render_export.find(api, "api"), said.append)

    live = asked(fake, question)
    assert {key: value.reveal() for key, value in live.effective.items()} == {
        "OWN": "own-hunter2",
        "SHARED": "own-hunter2",
        "DB": "postgres://u:hunter2@dpg-1-a/d",
        "G": "new-hunter2",  # the newer group
        "OLD": "1",
    }
    assert live.unsure == ("G",)
    assert live.deploy is not None
    assert live.deploy["commit"] == {"id": "good"}
    assert [each["name"] for each in live.siblings] == ["mailer"]
    assert [each.name for each in live.stores] == ["main"]
    assert not any("dpg-2" in each for each in fake.asked)  # nobody asks for a password that is not needed
    assert not any("evg-a3" in each for each in fake.asked)
    assert [each["name"] for each in live.domains] == ["api.example.com"]
    assert live.effective_files["key.pem"].reveal() == "hunter2 file"
    assert "hunter2" not in f"{live!r} {said}"
    assert "reading api at Render" in said


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_precedence_whatever_the_groups_hold(entries: list[tuple[str, int, int]]) -> None:
    """Owner 0 is the service itself, the others are groups, the higher the newer."""
    owners: list[dict[str, Secret]] = [{}, {}, {}, {}]
    for key, value, owner in entries:
        owners[owner][key] = Secret(str(value))
    groups = tuple(
        render_export.Group(f"g{number}", f"2025-0{number}", owners[number], {}) for number in (3, 1, 2)
    )
    live = render_export.Live({}, owners[0], {}, groups)
    for key in "ABC":
        counting = next((owner[key] for owner in (owners[0], *owners[:0:-1]) if key in owner), None)
        assert live.effective.get(key) == counting
        values = {owner[key] for owner in owners[1:] if key in owner}
        assert (key in live.unsure) == (len(values) > 1 and key not in owners[0])


class Ring(KeyringBackend):
    """A keyring of the test's own."""

    priority = 1

    def __init__(self, value: str | None, *, locked: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.value, self.locked = value, locked

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002
        raise AssertionError("rehost never stores a key")

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("hunter2")
        return self.value if (service, username) == ("rehost", "RENDER_API_KEY") else None


@pytest.fixture
def ring() -> Iterator[Callable[[KeyringBackend], None]]:
    yield keyring.set_keyring
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]  # no test asks this computer's own


def test_where_the_key_comes_from(ring: Callable[[KeyringBackend], None]) -> None:
    ring(Ring("rnd_ring\n"))
    assert render_api.needed_key({"RENDER_API_KEY": " rnd_env "}).reveal() == "rnd_env"
    assert render_api.needed_key({}).reveal() == "rnd_ring"
    assert render_api.key_of({}, ask_keyring=False) is None
    ring(Ring(None))
    with pytest.raises(UsageError, match="no key for Render's API"):
        render_api.needed_key({})
    ring(fail.Keyring())  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match="no key for Render's API"):
        render_api.needed_key({})
    ring(Ring(None, locked=True))
    with pytest.raises(UsageError, match="KeyringLocked") as caught:
        render_api.needed_key({})
    assert "hunter2" not in str(caught.value)
