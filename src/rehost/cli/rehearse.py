"""`rehost rehearse`: the whole move, in the lab."""

from __future__ import annotations

from pathlib import Path

import click

from rehost.cli.session import Session, common


@click.command(epilog="Example: rehost rehearse --keep")
@click.option("--keep", is_flag=True, help="Leave the lab and the machine up at the end.")
@click.option("--down", "take_down", is_flag=True, help="Take down what --keep left, and do nothing else.")
@click.option("--lab", "lab_name", default="rehearse", show_default=True, help="Name of the lab to use.")
@click.option(
    "--app",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory of the app to move. [default: examples/content-api of this checkout]",
)
@common()
async def command(session: Session, keep: bool, take_down: bool, lab_name: str, app: Path | None) -> int:
    """Move an app from its render.yaml, env file and Dockerfile onto a machine of the lab, by the same commands.

    A copy of the app is used; the directory itself is not touched. Ends with the address on the machine, what it
    answered, the record, and how to tear down.
    """
    from rehost.cli import rehearsal
    from rehost.cli.process import plain_interrupts

    with plain_interrupts():
        if take_down:
            return rehearsal.take_down(session, lab_name)
        return rehearsal.rehearse(session, lab_name, app or rehearsal.example(), keep=keep)
