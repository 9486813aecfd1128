"""Who calls the app by its old name: what kind of caller each place is, and what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.source import callers
from rehost.source.callers import Caller
from rehost.source.contract_files import Sources

OWN = frozenset({"shop.onrender.com"})
URL = "https://shop.onrender.com"


def find(file: str, text: str, *, others: bool = True) -> list[Caller]:
    return callers.find(Sources(Path("/nowhere"), {file: text.encode()}), OWN, others=others)


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("app.json", f'{{"extra": {{"apiUrl": "{URL}"}}}}', "a mobile build"),
        ("ios/App/Info.plist", "<string>shop.onrender.com</string>", "a mobile build"),
        (
            "android/app/src/main/AndroidManifest.xml",
            '<data android:host="shop.onrender.com"/>',
            "a mobile build",
        ),
        ("android/app/build.gradle", f'buildConfigField "String", "API", "{URL}"', "a mobile build"),
        ("lib/api.dart", f"const api = '{URL}';", "a mobile build"),
        ("auth.py", f'REDIRECT_URI = "{URL}/auth/google"', "an OAuth redirect"),
        ("auth.ts", f"callbackURL: '{URL}/x'", "an OAuth redirect"),
        ("pay.js", f"const hook = '{URL}/webhooks/stripe'", "a webhook"),
        ("main.py", f'allow_origins = [\n    "{URL}",\n]', "a CORS origin"),
        ("settings.py", "ALLOWED_HOSTS = ['shop.onrender.com']", "a CORS origin"),
        (".github/workflows/ci.yml", f"run: curl {URL}/health", "continuous integration"),
        (".env.production", f"VITE_API={URL}", "a frontend's build variable"),
        ("netlify.toml", f'to = "{URL}/:splat"', "a frontend's host"),
        ("web/vercel.json", f'"destination": "{URL}/$1"', "a frontend's host"),
        ("render.yaml", "domain: shop.onrender.com", "the blueprint"),
        ("README.md", URL, "documentation"),
        ("src/Api.vue", f"fetch('{URL}')", "a frontend"),
        ("web/api.js", f"fetch('{URL}')", "a frontend"),
        ("worker.go", f'http.Get("{URL}")', "code"),
    ],
)
def test_kinds(file: str, text: str, kind: str) -> None:
    (found,) = find(file, text)
    assert (found.kind.name, found.name, found.file) == (kind, "shop.onrender.com", file)
    assert found.line == text[: text.index("shop.onrender")].count("\n") + 1
    (told,) = callers.findings([found], OWN)
    assert (told.severity, told.where) == ("warning", f"{file}:{found.line}")
    assert told.cure


@pytest.mark.parametrize(
    "text",
    [
        "https://myshop.onrender.community",
        "notonrender.com",
        "onrender.com",
        "shop.onrender.com.evil.example",
    ],
)
def test_other_names_are_left_alone(text: str) -> None:
    assert find("a.js", text) == []


def test_other_services_at_render_are_told_apart() -> None:
    found = find("a.js", f"{URL}\nhttps://API.other.onrender.com/x\nhttps://api.myshop.onrender.com {URL}")
    assert [(each.line, each.name) for each in found] == [
        (1, "shop.onrender.com"),
        (2, "api.other.onrender.com"),
        (3, "api.myshop.onrender.com"),
        (3, "shop.onrender.com"),
    ]
    own, others = callers.findings(found, OWN)
    assert (own.where, own.what) == ("a.js:1", "code has shop.onrender.com; also a.js:3.")
    assert others.cure.startswith("When that service moves or ends: ")
    assert [each.name for each in find("a.js", f"{URL} x.onrender.com", others=False)] == [
        "shop.onrender.com"
    ]


def test_the_old_name_may_be_one_of_its_own_domain() -> None:
    own = callers.old_names("https://api.example.com/v1", ["shop", ""])
    assert own == {"api.example.com", "shop.onrender.com"}
    sources = Sources(Path("/nowhere"), {"a.js": b"fetch('https://api.example.com')\n'my-api.example.com'"})
    assert [each.line for each in callers.find(sources, own)] == [1]
    assert callers.find(sources, callers.old_names(None)) == []


def test_places_of_another_checkout_have_its_name_before_them_and_long_lists_end() -> None:
    (told,) = callers.findings(find("a.go", f"{URL}\n" * 30), OWN, "../web")
    assert told.where == "../web/a.go:1"
    assert "and 10 more" in told.what


@given(st.text(alphabet="shop.onrender.com/:'\n -\u017f\u212a", max_size=80))
def test_nothing_but_names_leaves_a_line(text: str) -> None:
    for each in find("a.js", f"secret=hunter2 {URL} {text}"):
        told = callers.findings([each], OWN)[0]
        assert "hunter2" not in told.what + told.cure
