"""Values that look wrong: each sign, and that no value is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.project import env_values
from rehost.project.dotenv import Environment
from rehost.run.secret import Secret

GOOD = "k9Pq3vXz7Lm2Rt5Yw8Bn4Cd6Fg1Hj0Ks"  # 32 characters


def about(name: str, value: str) -> list[str]:
    found = env_values.findings(Environment({name: Secret(value)}, {name: ".env.prod:3"}))
    assert all(one.where == ".env.prod:3" and one.cure and one.severity == "warning" for one in found)
    assert all(one.what.startswith(f"{name}: ") for one in found)
    return [one.what for one in found]


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("A", " x", "white space"),
        ("A", "x\n", "white space"),
        ("A", "'x'", "quotes"),
        ("A", '"x y"', "quotes"),
        ("SECRET_KEY", "changeme", "placeholder"),
        ("SECRET_KEY", "change-me-please", "placeholder"),
        ("STRIPE_KEY", "your-stripe-key", "placeholder"),
        ("STRIPE_KEY", "sk_live_xxxxxxxx", "placeholder"),
        ("STRIPE_KEY", "<your key>", "placeholder"),
        ("DATABASE_URL", "postgres://user:<password>@db.example.com/x", "placeholder"),
        ("DATABASE_URL", "mongodb+srv://u:your_password@c.mongodb.net", "placeholder"),
        ("A", "TODO", "placeholder"),
        ("A", "undefined", "placeholder"),
        ("SECRET_KEY", "short", "weak secret"),
        ("JWT_SECRET", "a" * 64, "weak secret"),
        ("NEXTAUTH_SECRET", "abc123", "weak secret"),
        ("DJANGO_SECRET_KEY", f"django-insecure-{GOOD}", "startproject"),
        ("ADMIN_PASSWORD", "hunter2", "weak password"),
        ("DB_PASS", "password", "weak password"),
        ("DATABASE_URL", "postgresql+asyncpg://u:p@localhost:5432/x", "this computer's own"),
        ("REDIS_URL", "redis://127.0.0.1:6379/0", "this computer's own"),
        ("ALLOWED_ORIGINS", "https://www.example.com,http://localhost:3000", "this computer's own"),
        ("DB_HOST", "localhost", "this computer's own"),
        ("MONGODB_URL", "mongodb://a.example.com:27017,localhost:27018/x", "this computer's own"),
        ("DATABASE_URL", "postgres://u:p@dpg-cabcdefghij0123456-a/x", "private name of Render's"),
        ("REDIS_URL", "redis://red-cabcdefghij0123456:6379", "private name of Render's"),
        ("WORKER_URL", "http://worker:10000", "without a domain"),
        ("API_URL", "https://shop-api.onrender.com/v1", "onrender.com"),
        ("ALLOWED_HOSTS", "shop.onrender.com,api.example.com", "onrender.com"),
    ],
)
def test_what_looks_wrong(name: str, value: str, part: str) -> None:
    found = about(name, value)
    assert [what for what in found if part in what], found
    if value not in ("short", "password"):  # words of the sentences themselves
        assert not any(value.strip() in what for what in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A", ""),
        ("SECRET_KEY", GOOD),
        ("STRIPE_SECRET_KEY", "sk_live_51Hx"),
        ("GOOGLE_CLIENT_SECRET", "GOCSPX-abcdefgh"),
        ("JWT_SECRET_ALGORITHM", "HS256"),
        ("JWT_EXPIRES", "15m"),
        ("HOST", "0.0.0.0"),  # noqa: S104
        ("BIND_HOST", "127.0.0.1"),
        ("DB_HOST", "db.example.com"),
        ("DATABASE_URL", "postgres://u:p@dpg-cabcdefghij0123456-a.oregon-postgres.render.com/x"),
        ("DATABASE_URL", "sqlite:///data/app.db"),
        ("DATABASE_URL", "mongodb+srv://u:p%40ss@cluster0.ab1cd.mongodb.net/x?retryWrites=true"),
        ("DATABASE_URL", "mongodb://u:p@a.example.com:27017,b.example.com:27017/x?replicaSet=rs"),
        ("MOBILE_CALLBACK", "myapp://callback"),
        ("KEY", "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"),
        ("DOC", "https://notonrender.com"),
        ("URL", "http://10.0.0.5:8080"),
        ("URL", "http://[2001:db8::1]:8080/"),
        ("GREETING", "change"),
        ("FLAG", "test"),
    ],
)
def test_what_looks_right(name: str, value: str) -> None:
    assert about(name, value) == []


@given(st.text(min_size=4), st.sampled_from(["A", "SECRET_KEY", "X_PASSWORD", "DATABASE_URL", "DB_HOST"]))
def test_no_value_is_shown(value: str, name: str) -> None:
    marked = f"Zq{value}qZ"
    for pattern in (marked, f"'{marked}'", f"postgres://{marked}@localhost/x", f" {marked}"):
        assert not any(marked in what for what in about(name, pattern))
