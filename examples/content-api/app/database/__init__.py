"""Everything that knows MongoDB. The rest of the API sees `Database`, its stores, their records and two errors."""

from app.database.client import Database
from app.database.comments import Comment, Thread
from app.database.driver import DuplicateError, UnavailableError
from app.database.files import StoredFile
from app.database.posts import Post, PostQuery, PostSummary, Sorting
from app.database.reactions import NO_REACTION, BusyError, Kind, Reaction
from app.database.stats import NO_COUNTS, Counted, Counts, Day, PostCounts
from app.database.users import Role, User

__all__ = [
    "NO_COUNTS",
    "NO_REACTION",
    "BusyError",
    "Comment",
    "Counted",
    "Counts",
    "Database",
    "Day",
    "DuplicateError",
    "Kind",
    "Post",
    "PostCounts",
    "PostQuery",
    "PostSummary",
    "Reaction",
    "Role",
    "Sorting",
    "StoredFile",
    "Thread",
    "UnavailableError",
    "User",
]
