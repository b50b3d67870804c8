"""The wall clock as functions see it: this machine's, or ahead of it where `localstack/up --clock` was asked for it."""

import os
import pathlib
import sys
import time

FILE = os.environ.get("STEPWELL_CLOCK")
LIBRARY = os.environ.get("STEPWELL_CLOCK_LIBRARY")


def variables():
    """What makes a process see it; see localstack/clock.c."""
    return {"STEPWELL_CLOCK": FILE, "LD_PRELOAD": LIBRARY} if FILE else {}


def now_ms():
    """The deadline that a function is told has to be of its own time."""
    ahead = int.from_bytes(pathlib.Path(FILE).read_bytes(), sys.byteorder, signed=True) if FILE else 0
    return int(time.time() * 1000) + ahead
