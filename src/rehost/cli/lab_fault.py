"""`rehost lab fault` and `rehost lab storm`: what goes wrong in the lab, on order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click

from rehost.cli.session import Session, common
from rehost.run.events import Json

name_option = click.option("--name", default="default", help="Which lab.", show_default=True)


@click.command(
    epilog="Example: rehost lab fault instances.insert stockout --times 2; rehost lab fault machine content-api "
    "disk-full --for 30s; rehost lab fault --clear"
)
@name_option
@click.argument("what", nargs=-1, metavar="[METHOD KIND | machine NAME KIND]")
@click.option("--times", default=1, show_default=True, help="For how many calls or boots.")
@click.option("--for", "span", help="How long: 30s, 2m.")
@click.option("--with", "other", help="The other machine, for a fault between two.")
@click.option("--clear", is_flag=True, help="Take orders back: all, or those of METHOD or of machine NAME.")
@click.option("--list", "show", is_flag=True, help="Explain every kind of fault.")
@common()
async def fault(
    session: Session,
    name: str,
    what: tuple[str, ...],
    times: int,
    span: str | None,
    other: str | None,
    clear: bool,
    show: bool,
) -> None:
    """Let something go wrong in the lab: calls of a METHOD of the API, or a machine.

    METHOD is written as Google does (instances.insert); a star stands for anything ('instances.*').
    """
    from rehost.lab import control, fault_kinds
    from rehost.lab.testing import order_of

    if show:
        _explain(session)
        return
    if clear:
        gone = control.clear_faults(name, **_which(what))
        session.out(f"{gone} taken back." if gone else "Nothing was ordered.")
        session.result(cleared=gone)
        return
    order: dict[str, Any] = {**order_of(what), "times": times}
    if span is not None:
        order["seconds"] = fault_kinds.seconds(span)
    if other is not None:
        order["with"] = other
    standing = control.order_fault(name, **order)
    for one in standing:
        session.out(str(one["text"]))
    if order["fault"] in fault_kinds.AT_ONCE:
        session.out(f"Done: machine {order['machine']}, {order['fault']}.")
    session.result(faults=[dict(one) for one in standing])


@click.command(epilog="Example: rehost lab storm --seed 7 --for 1m --machine content-api")
@name_option
@click.option("--seed", type=int, required=True, help="The same seed gives the same storm.")
@click.option("--for", "span", default="1m", show_default=True, help="How long it blows.")
@click.option("--gusts", default=6, show_default=True, type=click.IntRange(1), help="How many faults.")
@click.option("--machine", default="", help="Whose faults are among them; without it, the API's alone.")
@common()
async def storm(session: Session, name: str, seed: int, span: str, gusts: int, machine: str) -> None:
    """Let a repeatable series of faults come over the lab, each at its moment; at the end all is mended.

    Run what you want to try in another terminal meanwhile. Ctrl-C ends the storm.
    """
    from rehost.lab import control, fault_kinds
    from rehost.lab.storm import storm as series
    from rehost.run.errors import RehostError

    seconds = fault_kinds.seconds(span)
    control.environment(name)  # says when the lab is not up
    told: list[dict[str, Json]] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        for gust in series(seed, machine, seconds=seconds, gusts=gusts):
            await asyncio.sleep(max(0.0, began + gust.after - loop.time()))
            session.out(gust.text)
            told.append({"after": gust.after, **gust.order})
            try:
                await asyncio.to_thread(control.order_fault, name, **gust.order)
            except RehostError as refused:
                # What a storm has broken may be in the way of its next gust: a machine that is off has no disk to fill.
                session.warning(f"this one did not come: {refused.what}")
        await asyncio.sleep(max(0.0, began + seconds - loop.time()))
    finally:
        control.clear_faults(name)
    session.out("The storm is over; what it ordered is taken back.")
    session.result(seed=seed, gusts=list[Json](told))


def _which(what: tuple[str, ...]) -> dict[str, str]:
    from rehost.lab.fault_kinds import MACHINE
    from rehost.run.errors import UsageError

    if not what:
        return {}
    if len(what) == 2 and what[0] == MACHINE:
        return {"machine": what[1]}
    if len(what) == 1 and what[0] != MACHINE:
        return {"method": what[0]}
    raise UsageError(
        "--clear takes back all orders, or those of one METHOD or of one machine",
        cure="For example `rehost lab fault --clear machine content-api`.",
    )


def _explain(session: Session) -> None:
    from rehost.lab import fault_kinds as kinds

    groups: Mapping[str, Mapping[str, kinds.Kind]] = {
        "METHOD KIND: what the next calls get": {**kinds.IN_ANSWER, **kinds.ON_WIRE},
        "METHOD KIND, for methods that change something": kinds.IN_OPERATION,
        "machine NAME KIND: at its boots": kinds.AT_BOOT,
        "machine NAME KIND: on its network": kinds.ON_LINK,
        "machine NAME KIND: inside": kinds.INSIDE,
        "machine NAME KIND: at once": kinds.AT_ONCE,
    }
    for title, group in groups.items():
        session.out(title)
        for kind in group.values():
            session.out(f"  {kind.name:<20} {kind.does}{_extent(kind)}")
    session.result(
        kinds=[
            {
                "name": kind.name,
                "does": kind.does,
                "of": "machine" if kind.name in kinds.OF_MACHINES else "method",
            }
            for group in groups.values()
            for kind in group.values()
        ]
    )


def _extent(kind: Any) -> str:
    default = f", {kind.seconds:g} s if not said" if kind.seconds else ""
    words = [word for word, has in (("--for" + default, kind.timed), ("--times", kind.counted)) if has]
    return f" ({'; '.join(words)})" if words else ""
