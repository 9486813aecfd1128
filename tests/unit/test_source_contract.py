"""The variables that code demands, found by reading it: each language's forms, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.run.findings import Finding
from rehost.source import contract, contract_files
from rehost.source.contract import Contract
from rehost.source.contract_files import Sources


def sources(files: Mapping[str, str]) -> Sources:
    return Sources(Path("/nowhere"), {name: text.encode() for name, text in files.items()})


def needs(file: str, text: str) -> dict[str, str]:
    """Each variable with the strongest need that any of its places has."""
    order = ("optional", "read", "demanded")
    found: dict[str, str] = {}
    for use in contract.read(sources({file: text})).uses:
        found[use.name] = max(use.need, found.get(use.name, "optional"), key=order.index)
    return found


PYTHON = {
    'import os\nos.environ["A"]': {"A": "demanded"},
    'from os import environ as e, getenv as g\ne["A"]; g("B"); g("C", "1")': {
        "A": "demanded",
        "B": "read",
        "C": "optional",
    },
    'import os as o\no.environ.get("A"); o.getenv("B", None); o.environ.get("C", default="x")': {
        "A": "read",
        "B": "read",
        "C": "optional",
    },
    'import os\na = os.getenv("A") or "x"\nif os.getenv("B"): pass\nint(os.getenv("C"))': {
        "A": "optional",
        "B": "optional",
        "C": "demanded",
    },
    'import os\na = os.getenv("A")\nif not a:\n    raise RuntimeError("A")\nb = os.getenv("B")\nif b: pass': {
        "A": "demanded",
        "B": "optional",
    },
    'import os, sys\nif (a := os.environ.get("A")) is None:\n    sys.exit(1)': {"A": "demanded"},
    'import os\ntry:\n    os.environ["A"]\nexcept KeyError:\n    pass': {"A": "optional"},
    'import os\ntry:\n    os.environ["A"]\nexcept KeyError:\n    raise SystemExit': {"A": "demanded"},
    'import os\nif "A" in os.environ:\n    x = os.environ["A"]': {"A": "optional"},
    'import os\nos.environ["A"] = "1"\nos.environ.setdefault("B", "1")\nx = os.environ[name]': {},
    'from decouple import config\nconfig("A")\nconfig("B", default=False, cast=bool)': {
        "A": "demanded",
        "B": "optional",
    },
    'import environ\nenv = environ.Env(X=(int, 1))\nenv("A")\nenv.bool("B", default=None)\n'
    'env.db("C")\nenv.read_env("d")': {
        "A": "demanded",
        "B": "optional",
        "C": "demanded",
    },
    "this is { not Python, os.environ": {},
    'import os\nx = "\\d"\nos.environ["A"]': {"A": "demanded"},
    "import os\nos.environ" + ".a" * 5000: {},
}


@pytest.mark.parametrize("text", PYTHON)
def test_python(text: str) -> None:
    assert needs("app/main.py", text) == PYTHON[text]


SETTINGS = {
    "class S(BaseSettings):\n    a: str\n    b: int = 1\n    c: str | None = None\n    d: str = ...\n": {
        "A": "demanded",
        "B": "optional",
        "C": "optional",
        "D": "demanded",
    },
    "class S(pydantic_settings.BaseSettings):\n    model_config = SettingsConfigDict(env_prefix='APP_')\n"
    "    a: str = Field(min_length=1)\n    b: str = Field(default_factory=list)\n    c: str = Field('x')\n"
    "    d: str = Field(validation_alias='D_ALIAS')\n    e: str = Field(alias=AliasChoices('E1', 'E2'))\n"
    "    f: Annotated[str, Field(alias='F_ALIAS')]\n    g: Annotated[str, Field(default='x')]\n"
    "    h: ClassVar[str]\n    _i: str\n    j: str = helper('x')\n    def k(self) -> str: ...\n": {
        "APP_A": "demanded",
        "APP_B": "optional",
        "APP_C": "optional",
        "D_ALIAS": "demanded",
        "E1": "demanded",
        "F_ALIAS": "demanded",
        "APP_G": "optional",
        "APP_J": "optional",
    },
    "class Base(BaseSettings):\n    class Config:\n        env_prefix = 'X_'\n    a: str\n"
    "class S(Base):\n    b: str\n": {
        "X_A": "demanded",
        "X_B": "demanded",
    },
    "class S(BaseSettings):\n    model_config = {'case_sensitive': True}\n    apiKey: str\n": {
        "apiKey": "demanded"
    },
    "class S(BaseSettings):\n    a: str\n    @classmethod\n    def settings_customise_sources(cls): ...\n": {
        "A": "read"
    },
    "class NotSettings(BaseModel):\n    a: str\n": {},
}


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_classes(text: str) -> None:
    assert needs("app/settings.py", text) == SETTINGS[text]


def test_a_settings_class_is_followed_into_other_files() -> None:
    found = contract.read(
        sources(
            {
                "a.py": "class Base(BaseSettings):\n    a: str\n",
                "b.py": "from a import Base\nclass Settings(Base):\n    b: str = 'x'\n",
            }
        )
    )
    assert [(use.name, use.file, use.line, use.need) for use in found.uses] == [
        ("A", "a.py", 2, "demanded"),
        ("B", "b.py", 3, "optional"),
    ]


NESTED = """
class Login(BaseModel):
    user: str
    password: SecretStr

class Database(BaseModel):
    host: str
    port: int = 5432
    login: Login

class Cache(BaseModel):
    url: str = Field(alias="ADDRESS")

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__")
    db: Database
    cache: Cache | None
    other: Cache = Cache(url="x")
    second: Cache
"""


def test_what_a_nested_model_demands() -> None:
    found = {use.name: use.need for use in contract.read(sources({"a.py": NESTED})).uses}
    assert found == {
        **dict.fromkeys(("APP_DB__HOST", "APP_DB__LOGIN__USER", "APP_DB__LOGIN__PASSWORD"), "demanded"),
        **{"APP_CACHE": "demanded", "APP_OTHER": "optional", "APP_SECOND__ADDRESS": "demanded"},
    }
    given_names = dict.fromkeys(
        ("APP_DB__HOST", "APP_DB__LOGIN__USER", "APP_CACHE", "APP_SECOND__ADDRESS"), True
    )
    (error,) = [each for each in said({"a.py": NESTED}, given_names) if each.severity == "error"]
    assert (error.where, error.what.partition(":")[0]) == ("a.py:4", "APP_DB__LOGIN__PASSWORD or APP_DB")
    whole = dict.fromkeys(("APP_DB", "APP_CACHE", "APP_SECOND"), True)
    assert not [each for each in said({"a.py": NESTED}, whole) if each.severity == "error"]


OTHERS = {
    ("app.ts", "const a = process.env.A!;\nconst b = process.env['B'] ?? 'x';\nuse(process.env.C)"): {
        "A": "demanded",
        "B": "optional",
        "C": "read",
    },
    ("app.js", "mongoose.connect(process.env.A)\njwt.sign(data, process.env.B)\nprocess.env.C = 'x'"): {
        "A": "demanded",
        "B": "demanded",
    },
    ("app.js", "if (!process.env.A) {\n  throw new Error('A')\n}\nif (!process.env.B) warn()\n"): {
        "A": "demanded",
        "B": "optional",
    },
    ("app.js", "const a = process.env.A\nif (!a) process.exit(1)\nif (process.env.B === 'x') f()"): {
        "A": "demanded",
        "B": "optional",
    },
    ("app.js", "// process.env.A\n/* process.env.B */\n * process.env.C\nurl('https://x', process.env.D)"): {
        "D": "read"
    },
    ("app.js", "const { A, B = 'x', C: c } = process.env\nif (!c) { throw new Error() }"): {
        "A": "read",
        "B": "optional",
        "C": "demanded",
    },
    (
        "env.ts",
        "const s = z.object({\n  A: z.string().url(),\n  B: z.string().default('x'),\n"
        "  C: z.coerce.number().optional(),\n"
        "  NODE_ENV: z.enum(['a', 'b']),\n})\nexport const env = s.parse(process.env)\n",
    ): {"A": "demanded", "B": "optional", "C": "optional", "NODE_ENV": "demanded"},
    ("env.js", "cleanEnv(process.env, {\n  A: str(),\n  B: port({ default: 3000 }),\n})"): {
        "A": "demanded",
        "B": "optional",
    },
    ("env.js", "Joi.object({\n  A: Joi.string().required(),\n  B: Joi.string(),\n}).validate(process.env)"): {
        "A": "demanded",
        "B": "optional",
    },
    (
        "a.rb",
        "ENV.fetch('A')\nENV.fetch(\"B\", 'x')\nENV.fetch('C') { 1 }\nx = ENV['D']\nENV['E'] || 'x'\n# ENV['F']",
    ): {
        "A": "demanded",
        "B": "optional",
        "C": "optional",
        "D": "read",
        "E": "optional",
    },
    ("a.rb", "ENV['A'] || raise('no A')\nENV['B'] ||= 'x'\nputs 1 if ENV['C']"): {
        "A": "demanded",
        "B": "optional",
        "C": "optional",
    },
    (
        "main.go",
        'a := os.Getenv("A")\nif a == "" {\n  log.Fatal("A")\n}\nb, ok := os.LookupEnv("B")\nuse(os.Getenv("C"))',
    ): {
        "A": "demanded",
        "B": "optional",
        "C": "read",
    },
    ("main.go", 'port := os.Getenv("P")\nif port == "" {\n  port = "8080"\n}\nx := mustGetEnv("X")'): {
        "P": "optional",
        "X": "demanded",
    },
    (
        "config.go",
        'type C struct {\n  A string `env:"A,required"`\n  B string `env:"B" envDefault:"x"`\n  D int `env:"D"`\n}',
    ): {"A": "demanded", "B": "optional", "D": "optional"},
    (
        "main.rs",
        'env::var("A").unwrap();\nstd::env::var("B")\n    .expect("B");\nenv::var("C").unwrap_or_default();',
    ): {
        "A": "demanded",
        "B": "demanded",
        "C": "optional",
    },
    (
        "main.go",
        'v, ok := os.LookupEnv("A")\nif !ok {\n  log.Fatalf("A")\n}\n'
        'if v, ok := os.LookupEnv("B"); !ok {\n  return errors.New("B")\n}\nif _, ok := os.LookupEnv("C"); ok {\n}\n',
    ): {"A": "demanded", "B": "demanded", "C": "optional"},
    ("a.rb", "url = ENV.fetch 'A'\nn = ENV.fetch 'B', 1\nx = ENV.fetch('C') do\n 1 end\nENV.fetch( 'D' )"): {
        "A": "demanded",
        "B": "optional",
        "C": "optional",
        "D": "demanded",
    },
    ("main.ts", "const a = Deno.env.get('A')!;\nconst b = Deno.env.get('B') ?? 'x';"): {
        "A": "demanded",
        "B": "optional",
    },
    ("main.ts", "serve(Bun.env.A!, Bun.env['B'] || 1)"): {"A": "demanded", "B": "optional"},
    ("page.astro.ts", "import.meta.env.DEV && f(import.meta.env.A, import.meta.env.PUBLIC_B!)"): {
        "A": "read",
        "PUBLIC_B": "read",
    },
    ("a.mjs", "import { env } from 'node:process';\nconnect(env.A); f(env.B ?? 1); my.env.C; // env.D"): {
        "A": "demanded",
        "B": "optional",
    },
    ("a.js", "const env = process.env;\nif (!env.A) throw new Error();"): {"A": "demanded"},
    ("a.js", "const env = load();\nenv.A"): {},
    (
        "runtime.exs",
        'System.fetch_env!("A")\nSystem.get_env("B") ||\n  raise """\n  no\n  """\nSystem.get_env("C") || "x"\n'
        'System.get_env("D", "x")\nSystem.get_env("E")',
    ): {"A": "demanded", "B": "demanded", "C": "optional", "D": "optional", "E": "read"},
}


@pytest.mark.parametrize(("file", "text"), OTHERS)
def test_other_languages(file: str, text: str) -> None:
    assert needs(file, text) == OTHERS[file, text]


def test_rails_demands_a_secret_of_its_own() -> None:
    rails = {"config/environment.rb": 'require_relative "application"\nRails.application.initialize!\n'}
    (found,) = [each for each in said(rails, {}) if each.severity == "error"]
    assert found.what.startswith("SECRET_KEY_BASE or RAILS_MASTER_KEY: ")
    for given_name in ("SECRET_KEY_BASE", "RAILS_MASTER_KEY"):
        assert not [each for each in said(rails, {given_name: True}) if each.severity == "error"]
    own = {"config/environments/production.rb": "config.secret_key_base = Vault.read\n"}
    assert not [each for each in said({**rails, **own}, {}) if each.severity == "error"]


@pytest.mark.parametrize(
    ("file", "need"),
    [
        ("app/a.py", "demanded"),
        ("tests/a.py", None),
        ("app/test_a.py", None),
        ("scripts/a.py", "read"),
        ("docs/conf.py", None),
    ],
)
def test_where_it_stands_counts(file: str, need: str | None) -> None:
    assert needs(file, 'import os\nos.environ["A"]').get("A") == need


@given(
    st.sampled_from(["a.py", "a.ts", "a.rb", "a.go", "a.rs", "a.exs", ".env.example"]), st.text(), st.binary()
)
def test_whatever_a_file_holds(file: str, text: str, data: bytes) -> None:
    marks = b"os.environ BaseSettings process.env ENV Env env::var System. "
    there = Sources(
        Path("/nowhere"), {file: marks + data, f"b/{file}": marks + text.encode("utf-8", "replace")}
    )
    contract.examples(contract.read(there), there)


# -- what is said -------------------------------------------------------------------------------------------------


def said(
    files: Mapping[str, str], given: Mapping[str, bool], elsewhere: tuple[str, ...] = ()
) -> list[Finding]:
    there = sources(files)
    found: Contract = contract.examples(contract.read(there), there)
    return contract.findings(found, given, elsewhere, contract.words(there, given))


def test_what_is_demanded_and_not_given_is_an_error_with_its_place() -> None:
    text = "import os\n\nURL = os.environ['DATABASE_URL']\n"
    (error, *rest) = said({"app/db.py": text, "app/other.py": text}, {"OTHER": True})
    assert error.severity == "error"
    assert error.where == "app/db.py:3"
    assert 'DATABASE_URL: os.environ["DATABASE_URL"] demands it (and 1 more)' in error.what
    assert "rehost env set DATABASE_URL" in error.cure
    assert [one.severity for one in rest] == ["ok"]
    assert "named nowhere in the sources" in rest[0].what
    assert "OTHER" in rest[0].what


@pytest.mark.parametrize(
    ("given", "elsewhere"),
    [({"DATABASE_URL": True}, ()), ({}, ("DATABASE_URL",)), ({"database_url": True}, ())],
)
def test_what_is_given_is_not_missed(given: dict[str, bool], elsewhere: tuple[str, ...]) -> None:
    found = said({"s.py": "class S(BaseSettings):\n    database_url: str\n"}, given, elsewhere)
    assert [(one.severity, one.what) for one in found] == [
        ("ok", "the sources demand 1 variable; all are given")
    ]


def test_any_of_several_names_and_the_parts_of_a_nested_one_will_do() -> None:
    text = (
        "class S(BaseSettings):\n    model_config = SettingsConfigDict(env_nested_delimiter='__')\n"
        "    db: Database\n    key: str = Field(validation_alias=AliasChoices('KEY_A', 'KEY_B'))\n"
    )
    assert {one.severity for one in said({"s.py": text}, {"DB__HOST": True, "KEY_B": True})} == {"ok"}
    errors = [one.what for one in said({"s.py": text}, {}) if one.severity == "error"]
    assert [what.partition(":")[0] for what in errors] == ["DB", "KEY_A or KEY_B"]


def test_empty_values_and_what_is_only_read() -> None:
    files = {"a.py": "import os\nos.environ['A']\nos.getenv('B')\nos.getenv('C', 'x')\nos.environ['PATH']"}
    found = said(files, {"A": False})
    assert [(one.severity, one.where) for one in found] == [
        ("warning", "a.py:2"),
        ("warning", "env"),
        ("ok", "env"),
    ]
    assert "is empty" in found[0].what
    assert "B (a.py:3)" in found[1].what
    assert not re.search(r"\bC\b", found[1].what)


def test_the_example_of_an_env_file_counts_when_the_code_has_no_default() -> None:
    files = {".env.example": "A=1\nB=\nC=x\n", "a.py": "import os\nos.getenv('A', 'x')\nos.environ['B']"}
    found = said(files, {})
    assert [one.severity for one in found] == ["error", "warning"]
    assert "C (.env.example:3)" in found[1].what
    assert "A (" not in found[1].what
    assert said({".env.sample": "nonsense"}, {})[0].where == ".env.sample:1"


def test_platforms_own_variables_are_told_of_elsewhere() -> None:
    files = {"a.ts": "new Pool(process.env.RENDER_EXTERNAL_URL)\nf(process.env.NEXT_PUBLIC_A!)"}
    assert {one.severity for one in said(files, {})} == {"ok"}


# -- reading a directory ------------------------------------------------------------------------------------------


def test_only_text_that_people_write_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_files, "LARGEST_FILE", 100)
    for name in (
        *("a.py", "b/c.ts", ".env.example", ".github/w.yml", "Dockerfile", "large.py", "image.png"),
        *("node_modules/x.js", ".git/config.py", "env/d.py", "mine/pyvenv.cfg", "mine/lib.py", "yarn.lock"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * (101 if name == "large.py" else 1))
    (tmp_path / "link.py").symlink_to("a.py")
    found = contract_files.load(tmp_path)
    assert sorted(found.texts) == [".env.example", ".github/w.yml", "Dockerfile", "a.py", "b/c.ts"]
    assert found.left == 1
    assert list(found.only({"a.py"}).texts) == ["a.py"]
    monkeypatch.setattr(contract_files, "MOST_FILES", 2)
    assert contract_files.load(tmp_path).left == 4
