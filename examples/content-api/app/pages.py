"""Lists in pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query


class Page:
    """Which page of a list, and how many items a page has."""

    def __init__(
        self,
        page: Annotated[int, Query(ge=1, le=100_000, description="the first is 1")] = 1,
        size: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> None:
        self.page = page
        self.size = size

    @property
    def skip(self) -> int:
        """How many items come before this page."""
        return (self.page - 1) * self.size


WantedPage = Annotated[Page, Depends()]
