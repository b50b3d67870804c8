"""One running LocalStack: where it keeps what, how it is found again. Several may run at once, each in a folder of its own."""

import argparse
import json
import os
import pathlib
import subprocess

from support import ROOT, Failure

# Anything will do, in any client; LocalStack takes a key of twelve digits for an account.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
REGION = "us-east-1"
MODULE = "localstack.runtime.main"


def arguments(usage):
    """A parser for a script whose `__doc__` this is, with --state, which all of them have."""
    first, _, rest = usage.partition("\n\n")
    parser = argparse.ArgumentParser(
        usage=first.removeprefix("usage: "), epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("STEPWELL_LOCALSTACK") or ROOT / "target" / "localstack"
    parser.add_argument("--state", type=lambda given: pathlib.Path(given).resolve(), default=pathlib.Path(default),
                        help=argparse.SUPPRESS)
    return parser


def running(state):
    """What `up` wrote about the instance in this folder, or None if none runs."""
    try:
        known = json.loads((state / "state.json").read_text())
    except FileNotFoundError:
        return None
    return known if is_ours(known["pid"]) else None


def the(state, endpoint=None):
    """The same, or a failure that says what to do; an endpoint names one that `up` did not start."""
    known = {"endpoint": endpoint, "log": "its own log"} if endpoint else running(state)
    if known is None:
        raise Failure(f"no LocalStack runs in {state}: start one with localstack/up, or name its folder with --state")
    return known


def is_ours(pid):
    told = subprocess.run(["ps", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, text=True).stdout
    return MODULE in told and not told.startswith("Z")


def variables(known):
    """What a client needs to find it."""
    return {
        "AWS_ENDPOINT_URL": known["endpoint"],
        "AWS_ENDPOINT_URL_DYNAMODB": known["dynamodb"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        **CREDENTIALS,
    }
