"""`python -m app` serves the API."""

from app.main import run

if __name__ == "__main__":
    run()
