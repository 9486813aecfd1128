"""Are the env files in place, complete, and kept to oneself? Findings for `rehost check`."""

from __future__ import annotations

import stat
from pathlib import Path

from rehost.project import dotenv, env_values, git
from rehost.project.config import Project
from rehost.run.errors import UsageError
from rehost.run.findings import Finding


def findings(project: Project) -> list[Finding]:
    """What is to be said of a project's env files. Reads them and asks git; changes nothing."""
    found: list[Finding] = []
    files: list[dotenv.EnvFile] = []
    for name in project.env.files:
        path = project.directory / name
        try:
            file = dotenv.read(path, name)
        except UsageError as wrong:
            found.append(Finding("error", wrong.what, wrong.cure, wrong.where))
            continue
        files.append(file)
        found += [*of_file(path, name), *_of_duplicates(file)]
    if len(files) == len(
        project.env.files
    ):  # or else what is missing may stand in the file that was not read
        found += _of_required(project, dotenv.merge(files, project.env.required))
    found += env_values.findings(dotenv.merge(files), project.services)
    return found


def of_file(path: Path, name: str) -> list[Finding]:
    """Can others read a file with secrets, or does git have it? The file is there."""
    found: list[Finding] = []
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        found.append(
            Finding(
                "warning", f"others can open the file (mode {mode:04o}).", f"Type: chmod 600 {name}", name
            )
        )
    if git.tracked(path):
        found.append(
            Finding(
                "warning",
                "git keeps versions of this file: whoever has the repository has its secrets.",
                f"Type: git rm --cached {name}, add it to .gitignore, and change the secrets in it.",
                name,
            )
        )
    elif git.exposed(path):
        found.append(
            Finding("warning", 'the next "git add ." would take this file.', "Add it to .gitignore.", name)
        )
    return found


def _of_duplicates(file: dotenv.EnvFile) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"{early.name}: set again in line {last.line}, which counts.",
            "Remove one of the two.",
            f"{file.name}:{early.line}",
        )
        for early, last in file.duplicates
    ]


def missing(name: str) -> str:
    """What is said of a required variable that no env file has."""
    return f"{name}: required, and in no env file."


def _of_required(project: Project, environment: dotenv.Environment) -> list[Finding]:
    first = project.env.files[0] if project.env.files else ".env.prod"
    if not project.env.files and environment.missing:
        cure = "Name an env file in env.files of rehost.toml."
    else:
        cure = f"Add it to {first}, or take it out of env.required in rehost.toml."
    found = [Finding("error", missing(name), cure, first) for name in environment.missing]
    found += [
        Finding("warning", f"{name}: required, and empty.", "Give it a value.", environment.origin[name])
        for name in project.env.required
        if name in environment.values and not environment.values[name].reveal()
    ]
    if not found:
        count = len(environment.values)
        variables = "variable" if count == 1 else "variables"
        found.append(Finding("ok", f"{count} {variables}, none of the required ones missing.", "", "env"))
    return found
