"""Secrets and the scrubber of what programs print."""

from __future__ import annotations

from rehost.run.secret import Scrubber, Secret


def test_words_that_are_no_secret_in_any_app_stay_readable() -> None:
    scrubber = Scrubber([Secret("production"), Secret("hunter2hunter2"), Secret("production-hunter2")])
    assert scrubber.scrub("ENV NODE_ENV=production") == "ENV NODE_ENV=production"
    assert scrubber.scrub("hunter2hunter2 in production-hunter2") == "*** in ***"
