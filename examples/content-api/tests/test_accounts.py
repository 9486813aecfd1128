"""Accounts: register, log in, refresh, profile, password, deletion, roles (nx-27017, which is not MongoDB)."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest

from processes import PASSWORD, ROOT, SECRET_KEY, Api, Mongo, StartApi, User, environment, eventually

NEW_PASSWORD = "another battery staple"


def me(client: httpx.Client) -> int:
    return client.get("/users/me").status_code


def refresh(api: Api, token: str) -> httpx.Response:
    return api.http.post("/auth/refresh", json={"refresh_token": token})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_new_user_sees_all_of_itself_and_others_see_less(shared_api: Api) -> None:
    new = {"handle": "Ada_L", "email": "Ada@Example.com", "password": PASSWORD, "name": "Ada Lovelace"}
    made = shared_api.http.post("/auth/register", json=new)
    assert made.status_code == 201
    account = made.json()
    assert (account["handle"], account["email"], account["role"]) == ("ada_l", "ada@example.com", "user")
    user = shared_api.log_in("ADA_L")
    assert user.http.get("/users/me").json() == account
    profile = shared_api.http.get("/users/ada_l").json()
    assert set(profile) == {"handle", "name", "bio", "role", "created_at"}
    assert "hash" not in made.text + str(profile)


def test_a_profile_is_changed_in_parts(shared_api: Api) -> None:
    user = shared_api.sign_up()
    assert user.http.patch("/users/me", json={"name": "Grace", "bio": "Amazing."}).status_code == 200
    changed = user.http.patch("/users/me", json={"bio": ""}).json()
    assert (changed["name"], changed["bio"]) == ("Grace", "")
    assert user.http.patch("/users/me", json={"role": "admin"}).status_code == 422


@pytest.mark.parametrize("same", ["handle", "email"])
def test_a_handle_and_an_address_are_given_once(shared_api: Api, same: str) -> None:
    one = shared_api.sign_up().http.get("/users/me").json()
    new = {
        "handle": "free_handle",
        "email": "free@example.com",
        "password": PASSWORD,
        same: one[same].upper(),
    }
    refused = shared_api.http.post("/auth/register", json=new)
    assert refused.status_code == 409
    assert refused.json() == {"detail": f"There is a user with this {same} already."}


def test_many_who_want_the_same_handle_at_once(shared_api: Api) -> None:
    def register(number: int) -> int:
        new = {"handle": "wanted", "email": f"wanted{number}@example.com", "password": PASSWORD}
        return shared_api.http.post("/auth/register", json=new).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(register, range(8))) == [201] + [409] * 7


def test_a_refresh_gives_new_tokens_and_only_for_a_refresh_token(shared_api: Api) -> None:
    user = shared_api.sign_up()
    answer = refresh(shared_api, user.refresh_token)
    assert answer.status_code == 200
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    assert me(shared_api.client(**bearer(tokens["access_token"]))) == 200
    assert refresh(shared_api, tokens["access_token"]).status_code == 401
    assert me(shared_api.client(**bearer(tokens["refresh_token"]))) == 401


def test_a_new_password_ends_all_sessions_but_the_new_one(shared_api: Api) -> None:
    user = shared_api.sign_up()
    wrong = user.http.put("/users/me/password", json={"current": "wrong", "new": NEW_PASSWORD})
    assert wrong.status_code == 403
    changed = user.http.put("/users/me/password", json={"current": PASSWORD, "new": NEW_PASSWORD})
    assert changed.status_code == 200
    assert me(user.http) == 401
    assert refresh(shared_api, user.refresh_token).status_code == 401
    assert me(shared_api.client(**bearer(changed.json()["access_token"]))) == 200
    login = {"handle": user.handle, "password": PASSWORD}
    assert shared_api.http.post("/auth/login", json=login).status_code == 401
    assert me(shared_api.log_in(user.handle, NEW_PASSWORD).http) == 200


def test_a_deleted_user_is_gone_and_its_posts_and_handle_are_not(shared_api: Api) -> None:
    user = shared_api.sign_up()
    post = user.write_post()
    assert user.http.delete("/users/me").status_code == 204
    assert me(user.http) == 401
    assert refresh(shared_api, user.refresh_token).status_code == 401
    login = {"handle": user.handle, "password": PASSWORD}
    assert shared_api.http.post("/auth/login", json=login).status_code == 401
    assert shared_api.http.get(f"/users/{user.handle}").status_code == 404
    new = {"handle": user.handle, "email": "somebody.else@example.com", "password": PASSWORD}
    assert shared_api.http.post("/auth/register", json=new).status_code == 409
    assert shared_api.http.get(f"/posts/{post['slug']}").json()["author"] == user.handle


def forged(**changes: object) -> str:
    claims = {"iss": "content-api", "sub": "x", "session": 0, "kind": "access", "exp": time.time() + 60}
    return jwt.encode({**claims, **changes}, SECRET_KEY, "HS256")


BAD_TOKENS = {
    "no user": forged(),
    "ended": forged(exp=time.time() - 1),
    "another issuer": forged(iss="elsewhere"),
    "no kind": forged(kind=None),
    "a session that is no number": forged(session="0"),
    "another key": jwt.encode({"sub": "x"}, "k" * 32, "HS256"),
    "another algorithm": jwt.encode({"sub": "x", "iss": "content-api"}, SECRET_KEY * 2, "HS512"),
    "unsigned": jwt.encode({"sub": "x"}, "", "none"),
    "no token": "abc",
    "umlaut": "é",
    "two words": "abc def",
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_is_refused(shared_api: Api, kind: str) -> None:
    header = f"Bearer {BAD_TOKENS[kind]}".encode("latin-1")
    answer = shared_api.http.get("/users/me", headers=[(b"Authorization", header)])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["detail"]


@pytest.mark.parametrize("header", [None, "Basic YTpi", "Bearer"])
def test_no_token_is_refused(shared_api: Api, header: str | None) -> None:
    answer = shared_api.http.get("/users/me", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401


def test_a_token_of_another_key_is_no_token(start_api: StartApi, mongo: Mongo, database_name: str) -> None:
    """Two processes of one release share the key; a new key ends all sessions."""
    first = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", first.healthy)
    token = first.sign_up().http.headers["Authorization"]
    same = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    other = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, SECRET_KEY="o" * 40)
    assert me(same.client(Authorization=token)) == 200
    assert me(other.client(Authorization=token)) == 401


@pytest.fixture
def own_api(start_api: StartApi, mongo: Mongo, database_name: str) -> Api:
    """For what other tests would feel: admins, and addresses that may not log in any more."""
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, FORWARDED_ALLOW_IPS="127.0.0.1")
    eventually("healthy", api.healthy)
    return api


def run_admin(api: Api, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = environment(**{**api.variables, **variables})
    command = [sys.executable, "-m", "app.admin", *arguments]
    return subprocess.run(command, cwd=api.log.parent, env=env, capture_output=True, text=True, check=False)


def test_an_admin_may_what_others_may_not(own_api: Api) -> None:
    author, other, boss = (own_api.sign_up() for _ in range(3))
    made = run_admin(own_api, boss.handle.upper(), "admin")
    assert (made.returncode, made.stdout) == (0, f"{boss.handle.upper()} is now: admin\n")
    assert boss.http.get("/users/me").json()["role"] == "admin"
    post = author.write_post()
    path = f"/posts/{post['slug']}"
    for user, code in ((other, 403), (boss, 200)):
        assert user.http.patch(path, json={"body": f"by {user.handle}"}).status_code == code
    comment = author.http.post(f"{path}/comments", json={"body": "x"}).json()["id"]
    upload = author.http.post("/files", params={"name": "a.txt"}, content=b"text").json()["id"]
    for target in (f"/comments/{comment}", f"/files/{upload}", path, f"/users/{author.handle}"):
        assert [user.http.delete(target).status_code for user in (other, boss)] == [403, 204], target
    assert me(author.http) == 401
    assert run_admin(own_api, boss.handle, "user").returncode == 0
    assert boss.http.delete(f"/users/{other.handle}").status_code == 403


def test_what_the_admin_command_says_when_it_cannot(own_api: Api) -> None:
    assert run_admin(own_api, "nobody", "admin").stdout == "there is no user nobody\n"
    assert [run_admin(own_api, *words).returncode for words in ((), ("a", "king"), ("nobody", "admin"))] == [
        2,
        2,
        1,
    ]
    wrong = run_admin(own_api, "nobody", "admin", MONGODB_URL="x")
    assert (wrong.returncode, wrong.stderr.split()[0]) == (2, "MONGODB_URL")
    gone = run_admin(own_api, "nobody", "admin", MONGODB_URL="mongodb://127.0.0.1:1/?timeoutMS=200")
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stderr
    assert "Traceback" not in gone.stderr


WRONG = "wrong"


def guess(api: Api, handle: str, password: str = WRONG, address: str = "198.51.100.1") -> httpx.Response:
    return api.http.post(
        "/auth/login", json={"handle": handle, "password": password}, headers={"X-Forwarded-For": address}
    )


def test_guessing_a_password_ends_soon(own_api: Api) -> None:
    user = own_api.sign_up()
    assert [guess(own_api, user.handle).status_code for _ in range(6)] == [401] * 5 + [429]
    refused = guess(own_api, user.handle, PASSWORD)
    assert refused.status_code == 429, "not even with the right one"
    assert 0 < int(refused.headers["retry-after"]) <= 300
    assert guess(own_api, user.handle, PASSWORD, "198.51.100.2").status_code == 200, "from elsewhere"
    assert guess(own_api, "somebody_else").status_code == 401, "another account from there"
    assert 'content_api_logins_total{result="limited"} 2.0' in own_api.http.get("/metrics").text


def test_many_guesses_at_once_are_no_way_around(own_api: Api) -> None:
    user = own_api.sign_up()
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: guess(own_api, user.handle).status_code, range(20)))
    assert sorted(codes) == [401] * 5 + [429] * 15


def test_the_own_password_cannot_be_guessed_with_a_stolen_token_either(own_api: Api) -> None:
    user: User = own_api.sign_up()
    change = {"current": "wrong", "new": NEW_PASSWORD}
    codes = [user.http.put("/users/me/password", json=change).status_code for _ in range(6)]
    assert codes == [403] * 5 + [429]


REFUSED = [
    {"handle": "ab"},
    {"handle": "a" * 31},
    {"handle": "with space"},
    {"handle": "umläut"},
    {"handle": {"$ne": ""}},
    {"email": "no address"},
    {"email": "a@b"},
    {"email": "a" * 250 + "@b.de"},
    {"password": "short"},
    {"password": "x" * 129},
    {"name": "x" * 101},
    {"role": "admin"},
]


@pytest.mark.parametrize("fields", REFUSED)
def test_a_registration_that_is_refused(shared_api: Api, fields: dict[str, object]) -> None:
    new = {"handle": "refused_one", "email": "refused@example.com", "password": PASSWORD, **fields}
    answer = shared_api.http.post("/auth/register", json=new)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text
    assert shared_api.http.get("/users/refused_one").status_code == 404


def test_passwords_are_not_logged_and_not_kept(own_api: Api) -> None:
    user = own_api.sign_up()
    guess(own_api, user.handle, "Zx9sentinel")
    own_api.http.post("/auth/register", json={"handle": "x", "password": "Zx9sentinel"})
    own_api.http.get("/users/me", headers={"Authorization": "Bearer Zx9sentinel"})
    assert own_api.stop() == 0
    assert PASSWORD not in own_api.output()
    assert "sentinel" not in own_api.output()


def test_the_command_line_of_the_readme() -> None:
    assert "python -m app.admin HANDLE admin" in (ROOT / "README.md").read_text()
