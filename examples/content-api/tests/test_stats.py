"""Totals and daily counts (nx-27017, which is not MongoDB)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from processes import Api, Mongo, StartApi, eventually

NOTHING = {"users": 0, "posts": 0, "comments": 0, "reactions": 0, "files": 0}


def test_what_there_is_and_what_was_made_today(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    assert api.http.get("/stats").json()["total"] == NOTHING
    user = api.user
    kept, gone = (f"/posts/{user.write_post()['slug']}" for _ in range(2))
    for path in (kept, gone, gone):
        user.http.post(f"{path}/comments", json={"body": "x"}).raise_for_status()
    for kind in ("like", "bookmark", "like"):
        user.http.post(f"{kept}/reactions", json={"kind": kind}).raise_for_status()
    user.http.post(f"{gone}/reactions", json={"kind": "dislike"}).raise_for_status()
    file = user.http.post("/files", params={"name": "x"}, content=b"x").json()
    user.http.delete(f"/files/{file['id']}").raise_for_status()
    user.http.delete(gone).raise_for_status()
    today = datetime.now(UTC).date()
    stats = api.http.get("/stats", params={"days": 3}).json()
    assert stats["total"] == {"users": 1, "posts": 1, "comments": 1, "reactions": 1, "files": 0}
    assert [day["day"] for day in stats["days"]] == [str(today - timedelta(days=back)) for back in range(3)]
    made = {"users": 1, "posts": 2, "comments": 3, "reactions": 3, "files": 1}
    assert [day["made"] for day in stats["days"]] == [made, NOTHING, NOTHING]


def test_days_out_of_bounds(shared_api: Api) -> None:
    codes = [shared_api.http.get("/stats", params={"days": days}).status_code for days in (0, 1, 366, 367)]
    assert codes == [422, 200, 200, 422]
