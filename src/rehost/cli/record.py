"""`rehost record`: the record of the move."""

from __future__ import annotations

from pathlib import Path

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost record --output move.md")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@common()
async def command(session: Session, output: Path | None) -> None:
    """Write the record of the move in Markdown: what was done when, what went wrong, what is left.

    Made from the journal in .rehost/ and the machine's present state. Holds no secret.
    """
    from rehost.cli.recording import final_state
    from rehost.project import config
    from rehost.run import journal
    from rehost.run.errors import UsageError
    from rehost.run.record import record

    project = config.load(session.directory)
    state = await final_state(session, project)
    text = session.bus.scrubber.scrub(record(journal.runs(project.directory), state))
    if output is None:
        session.out(text)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as failed:
            raise UsageError(
                f"cannot be written: {failed.strerror}.",
                where=str(output),
                cure="Name a file in a directory that is there, with --output.",
            ) from None
        session.out(f"The record is in {output}.")
    session.result(record=text if output is None else str(output))
