"""`python -m app.admin HANDLE admin` makes a user an admin, and `... user` takes that back."""

from __future__ import annotations

import asyncio
import sys
from typing import get_args

from app.database import Database, Role, UnavailableError
from app.settings import ConfigurationError, Settings, load

USAGE = "usage: python -m app.admin HANDLE admin|user"


async def set_role(settings: Settings, handle: str, role: Role) -> bool:
    """Whether there is such a user. Raises UnavailableError, ConfigurationError."""
    database = Database(settings.mongodb_url.get_secret_value(), settings.database_name, settings.collections)
    try:
        user = await database.users.by_handle(handle.lower())
        return user is not None and await database.users.set_role(user.id, role) is not None
    finally:
        await database.close()


def main(arguments: list[str]) -> int:
    """The exit code: 0 when it is done, 1 when it could not be done, 2 for wrong arguments or variables."""
    if len(arguments) != 2 or arguments[1] not in get_args(Role):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    handle, role = arguments
    try:
        done = asyncio.run(set_role(load(), handle, "admin" if role == "admin" else "user"))
    except ConfigurationError as error:
        sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
        return 2
    except UnavailableError as error:
        sys.stderr.write(f"the database cannot be reached: {error}\n")
        return 1
    sys.stdout.write(f"{handle} is now: {role}\n" if done else f"there is no user {handle}\n")
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
