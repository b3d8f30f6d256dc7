"""Hooks of schemathesis: each request comes from another address, as one that guesses is slowed down."""

import random

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["X-Forwarded-For"] = f"192.0.{random.randrange(256)}.{random.randrange(256)}"
