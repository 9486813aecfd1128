"""The environment's contract: the variables that the code demands, held against those that it will be given.

Only reading: nothing of the app is imported or run. An error names the place that demands the variable.
`up` does not hold this: what was read from sources can be wrong about code that never runs, and must not stop a
release. What `up` holds is `env.required` of rehost.toml.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from rehost.project import dotenv
from rehost.run.errors import UsageError
from rehost.run.findings import Finding
from rehost.source import contract_python, contract_text
from rehost.source.contract_files import Sources
from rehost.source.contract_use import Use

EXAMPLES = re.compile(
    r"\.env(?:\.\w+)*\.(?:example|sample|template|dist)|(?:example|sample)\.env|\.?env\.example"
)
# What no release runs: its own variables are nobody's business here.
_TESTS = re.compile(
    r"(?:^|/)(?:tests?|__tests__|spec|specs|e2e|cypress|fixtures|docs?|examples?|benchmarks?|\.github|\.circleci)/"
    r"|(?:^|/)(?:test_[^/]*|conftest|[^/]*_test)\.\w+$|\.(?:test|spec|stories|e2e)\.\w+$"
    r"|(?:^|/)[^/]*\.config\.(?:js|ts|mjs|cjs|mts)$|(?:^|/)config/environments/(?:development|test)\.rb$"
)
# Most often typed by a person, not started with the app.
_TOOLS = re.compile(
    r"(?:^|/)(?:scripts?|tools?|bin|hack|dev|ci|seeds?|tasks)/|(?:^|/)(?:seed|fabfile|tasks|noxfile)\."
)
# Set by the shell, the image, the container or a tool, or known to be absent on purpose.
_COMMON = frozenset(
    (
        *(
            "PATH",
            "HOME",
            "HOSTNAME",
            "USER",
            "LOGNAME",
            "PWD",
            "SHELL",
            "TERM",
            "TZ",
            "LANG",
            "LC_ALL",
            "TMPDIR",
        ),
        *(
            "NODE_ENV",
            "CI",
            "DEBUG",
            "EDITOR",
            "NO_COLOR",
            "FORCE_COLOR",
            "XDG_CONFIG_HOME",
            "XDG_CACHE_HOME",
        ),
        *("PYTHON_VERSION", "NODE_VERSION", "RUBY_VERSION", "GO_VERSION", "RUST_VERSION", "ELIXIR_VERSION"),
        *("RAILS_ENV", "RACK_ENV", "MIX_ENV", "BUNDLE_GEMFILE", "PYTHONPATH", "VIRTUAL_ENV", "APPDATA"),
    )
)
# A bundler puts these into what browsers load while the image is built; the container never reads them.
BAKED = re.compile(r"(?:NEXT_PUBLIC|VITE|REACT_APP|NUXT_PUBLIC|PUBLIC|GATSBY|EXPO_PUBLIC|VUE_APP)_\w+")
# Platforms' own variables: source/parity.py tells of Render's.
_PLATFORMS = re.compile(
    r"(?:RENDER|HEROKU|FLY|VERCEL|RAILWAY|NETLIFY|DYNO|KUBERNETES|GITHUB|GITLAB|CIRCLE|npm)(?:_\w+)?"
    r"|IS_PULL_REQUEST|WEB_CONCURRENCY"
)
_SHOWN = 12
_RAILS = Use(
    "SECRET_KEY_BASE",
    "config/environment.rb",
    1,
    "demanded",
    "Rails in production",
    others=("RAILS_MASTER_KEY",),
)


class Contract(NamedTuple):
    """uses: of all variables, by file and line. given: names that the code sets itself.

    documented: names that an example of an env file has, with "file:line". faults: such files that are none.
    left: how many files were not looked into.
    """

    uses: tuple[Use, ...]
    given: frozenset[str]
    documented: Mapping[str, str]
    faults: tuple[Finding, ...] = ()
    left: int = 0


def read(sources: Sources) -> Contract:
    """What these sources demand. Tests, documentation and tools of development are left out."""
    files = {path: text for path, text in sources.texts.items() if not _TESTS.search(path)}
    python, given, left = contract_python.read(
        {path: text for path, text in files.items() if path.endswith(".py")}
    )
    others, set_there = contract_text.read(files)
    uses = [
        each._replace(need="read") if each.need == "demanded" and _TOOLS.search(each.file) else each
        for each in (*python, *others)
    ]
    rails = b"Rails" in files.get("config/environment.rb", b"")
    if rails and not any(
        b"config.secret_key_base" in text for path, text in files.items() if path[-3:] == ".rb"
    ):
        # Rails itself: it does not start in production without a secret, its own or that of its credentials.
        uses.append(_RAILS)
    return Contract(
        tuple(sorted(uses, key=lambda each: (each.file, each.line, each.name))),
        frozenset(given | set_there),
        {},
        left=left,
    )


def examples(contract: Contract, sources: Sources) -> Contract:
    """The contract with what the env files' examples at the root document. `.dockerignore` leaves these out."""
    documented: dict[str, str] = {}
    faults: list[Finding] = []
    for path, text in sources.texts.items():
        if not EXAMPLES.fullmatch(path):
            continue
        try:
            for name, variable in dotenv.parse(dotenv.decode(text, path), path).variables.items():
                documented.setdefault(name, f"{path}:{variable.line}")
        except UsageError as wrong:
            faults.append(Finding("warning", wrong.what, wrong.cure, wrong.where))
    return contract._replace(documented=documented, faults=tuple(faults))


def findings(
    contract: Contract, given: Mapping[str, bool], elsewhere: Collection[str], words: Collection[str]
) -> list[Finding]:
    """What is missing, and what seems to be there for nothing.

    given: the names in the env files, and whether each has a value that is not empty. elsewhere: names that the
    image or rehost sets. words: every name that stands anywhere in the sources, for what is read in other ways.
    """
    there = {*given, *elsewhere, *contract.given}
    folded = {name.upper() for name in there}

    def satisfied(use: Use) -> bool:
        if any(name in there for name in (use.name, *use.others)) or use.name in _COMMON:
            return True
        # Settings classes do not mind the case, nor where the parts of a nested one come from.
        if (
            use.how
            and "." in use.how
            and use.name.upper() in folded
            and not use.how.startswith(("os.", "process."))
        ):
            return True
        if use.prefix and any(name.startswith(use.prefix.upper()) for name in folded):
            return True
        return _PLATFORMS.fullmatch(use.name) is not None or BAKED.fullmatch(use.name) is not None

    missing: dict[str, list[Use]] = {}
    lenient: dict[str, Use] = {}
    defaulted = {use.name for use in contract.uses if use.need == "optional"}
    for use in contract.uses:
        if satisfied(use):
            continue
        if use.need == "demanded":
            missing.setdefault(use.name, []).append(use)
        elif use.need == "read" and use.name not in defaulted:
            lenient.setdefault(use.name, use)
    found = [*contract.faults, *(_missing(name, uses) for name, uses in missing.items())]
    found += _empty(contract, given)
    absent = {name: f"{use.file}:{use.line}" for name, use in lenient.items() if name not in missing}
    if absent:
        found.append(
            Finding(
                "warning",
                f"the sources read, without a default, and no env file gives: {_listed(absent)}.",
                "Give those that the app needs in production (`rehost env set NAME`).",
                "env",
            )
        )
    known = {*missing, *absent, *defaulted, *there, *_COMMON}
    promised = {name: where for name, where in contract.documented.items() if name not in known}
    if promised:
        found.append(
            Finding(
                "warning",
                f"an example of the env file has, and no env file gives: {_listed(promised)}.",
                "Give those that the app needs in production (`rehost env set NAME`).",
                "env",
            )
        )
    found += _summary(contract, given, missing, words)
    return found


def _missing(name: str, uses: list[Use]) -> Finding:
    first = uses[0]
    others = f" (and {len(uses) - 1} more)" if len(uses) > 1 else ""
    names = " or ".join((name, *first.others))
    return Finding(
        "error",
        f"{names}: {first.how} demands it{others}, and no env file gives it.",
        f"Type `rehost env set {name}`. Where this file is no part of the app, name it in .dockerignore.",
        f"{first.file}:{first.line}",
    )


def _empty(contract: Contract, given: Mapping[str, bool]) -> list[Finding]:
    empty: dict[str, Use] = {}
    for use in contract.uses:
        if use.need == "demanded" and given.get(use.name) is False:
            empty.setdefault(use.name, use)
    return [
        Finding(
            "warning",
            f"{name}: {use.how} demands it, and what the env file gives is empty.",
            f"Give it a value: `rehost env set {name}`.",
            f"{use.file}:{use.line}",
        )
        for name, use in empty.items()
    ]


def _summary(
    contract: Contract, given: Mapping[str, bool], missing: Collection[str], words: Collection[str]
) -> list[Finding]:
    demanded = {use.name for use in contract.uses if use.need == "demanded"}
    found: list[Finding] = []
    if not missing:
        count = len(demanded)
        what = f"the sources demand {count} {'variable' if count == 1 else 'variables'}; all are given"
        found.append(Finding("ok", what if count else "the sources demand no variable", where="env"))
    read = {name.upper() for use in contract.uses for name in (use.name, *use.others)}
    prefixes = tuple(use.prefix.upper() for use in contract.uses if use.prefix)
    unused = [
        name
        for name in given
        if name.upper() not in read
        and name not in words
        and not (prefixes and name.upper().startswith(prefixes))
        and name not in _COMMON
        and name != "PORT"
    ]
    if unused:
        what = "given, and named nowhere in the sources (a library may still read them): "
        found.append(Finding("ok", f"{what}{_some(unused)}", where="env"))
    return found


def _listed(places: Mapping[str, str]) -> str:
    return _some([f"{name} ({where})" for name, where in sorted(places.items())])


def _some(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - _SHOWN
    return ", ".join(all_names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def words(sources: Sources, names: Collection[str]) -> set[str]:
    """Those of the names that stand anywhere in the sources; env files and their examples do not count."""
    wanted = {name.encode() for name in names}
    found: set[bytes] = set()
    for path, text in sources.texts.items():
        base = posixpath.basename(path)
        if wanted and not base.startswith(".env") and not base.endswith(".env"):
            here = {name for name in wanted if name in text}
            found |= here
            wanted -= here
    return {name.decode() for name in found}
