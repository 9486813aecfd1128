"""Numbers of the whole site."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from app.errors import answers
from app.services import FromApp

router = APIRouter(tags=["stats"], responses=answers(503))


class CountsOut(BaseModel):
    """How much there is of everything."""

    users: int
    posts: int
    comments: int
    reactions: int
    files: int


class DayOut(BaseModel):
    """What was made on one day, in UTC; what was deleted later counts all the same."""

    day: date
    made: CountsOut


class StatsOut(BaseModel):
    """What there is now, and what was made on each of the last days, today first."""

    total: CountsOut
    days: list[DayOut]


@router.get("/stats")
async def stats(services: FromApp, days: Annotated[int, Query(ge=1, le=366)] = 30) -> StatsOut:
    """Show totals and daily counts."""
    total, by_day = await services.database.stats.read(days)
    return StatsOut.model_validate({"total": asdict(total), "days": [asdict(day) for day in by_day]})
