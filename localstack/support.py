"""What the scripts of this folder share: where things are kept, who may build them, how a failure is told.

Runs on any Python from 3.9 on, as it is what finds the right one.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


class Failure(Exception):
    """What a user can do something about; `main` prints it without a trace."""


def main(work):
    """Runs a script's `work`, and tells a Failure as one sentence."""
    try:
        sys.exit(work())
    except Failure as failure:
        print(f"{pathlib.Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def cache():
    """Where what can be fetched again is kept: outside the clone, for every clone alike."""
    folder = os.environ.get("STEPWELL_CACHE") or pathlib.Path.home() / ".cache" / "stepwell"
    return pathlib.Path(folder).resolve()


def keyed(name, *files):
    """A folder of the cache that changes its name whenever one of the files changes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return cache() / f"{name}-{digest.hexdigest()[:16]}"


def built(folder, build):
    """Has `build(folder)` made the folder once, however many ask at the same time; half of one is made anew."""
    done = folder / ".complete"
    if done.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


@contextlib.contextmanager
def locked(file):
    """Holds the lock of this file; its holder's death frees it."""
    with open(file, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(command, what, **options):
    """Runs a command whose output matters only when it fails."""
    result = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if result.returncode != 0:
        raise Failure(f"{what} failed ({command[0]} ended with {result.returncode}):\n{result.stdout[-4000:]}")
    return result.stdout
