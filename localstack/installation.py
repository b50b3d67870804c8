"""Virtual environments, first of all LocalStack's, DynamoDB Local's jars, a clock: built once, from their locks, into the cache."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

from support import HERE, Failure, built, keyed, run

LOCK = HERE / "requirements.txt"
JAVA = HERE / "java"
# LocalStack starts on older ones, but its DynamoDB and KMS do not; the lock was made for this one.
PYTHON = (3, 13)


def python(name="localstack", lock=LOCK):
    """The interpreter of the virtual environment that has what the lock says, and that alone."""
    return built(keyed(name, lock), lambda folder: _environment(name, lock, folder)) / "bin" / "python"


def dynamodb():
    """The classpath of DynamoDB Local with our launcher in front."""
    folder = built(keyed("dynamodb-local", *sorted(JAVA.iterdir())), _jars)
    return f"{folder}:{folder / 'lib'}/*"


def clock():
    """The library that makes functions see another time."""
    source = HERE / "clock.c"
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise Failure("this machine lacks a C compiler (CC, `cc` or `gcc` on PATH): the clock of functions is helped by a library")

    def compile(folder):
        flags = ["-std=c11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
        run([compiler, *flags, "-o", folder / "clock.so", source, "-ldl"], "compiling the clock")

    return built(keyed("clock", source), compile) / "clock.so"


def missing(environment=True, jars=True, name="localstack", lock=LOCK):
    """What this machine lacks, a sentence each, before an hour is spent on finding out."""
    found = []
    if environment and not (keyed(name, lock) / ".complete").exists() and not _interpreter():
        found.append(
            "Python 3.13 with venv (looked at STEPWELL_PYTHON, python3.13 and python3 on PATH, and pyenv's versions): "
            "install it, or name one in STEPWELL_PYTHON"
        )
    if jars:
        found += [] if _java_version("java") >= 17 else ["Java 17 or newer (`java` on PATH): DynamoDB Local runs on it"]
        if not (keyed("dynamodb-local", *sorted(JAVA.iterdir())) / ".complete").exists():
            found += [] if _java_version("javac") >= 17 else ["a JDK of 17 or newer (`javac` on PATH, not only the JRE)"]
            found += [] if shutil.which("mvn") else ["Maven (`mvn` on PATH): it fetches DynamoDB Local"]
    return found


def require(**parts):
    """Fails with all that is missing."""
    found = missing(**parts)
    if found:
        raise Failure("this machine lacks:\n" + "\n".join(f"  - {each}" for each in found))


def _environment(name, lock, folder):
    print(f"{name}: installing into {folder}, once (2 minutes)", file=sys.stderr)
    run([_interpreter(), "-m", "venv", folder], "making the virtual environment")
    python = [folder / "bin" / "python", "-m", "pip"]
    pip = [*python, "install", "--quiet", "--no-input", "--require-hashes", "--no-deps"]
    # A few are published as source only: they are built with the locked setuptools, not with whatever is newest.
    if setuptools := re.search(r"^setuptools==.*?(?=^\S|\Z)", lock.read_text(), re.M | re.S):
        first = folder / "setuptools.txt"
        first.write_text(setuptools[0])
        run([*pip, "-r", first], "installing setuptools")
    try:
        run([*pip, "--no-build-isolation", "-r", lock], f"installing {name}")
    except Failure as failure:
        # A hundred downloads: one broken connection is no reason to give up what has already come.
        print(f"{name}: {failure}\n{name}: trying once more", file=sys.stderr)
        run([*pip, "--no-build-isolation", "-r", lock], f"installing {name}")
    run([*python, "check"], "checking what was installed")


def _jars(folder):
    print(f"dynamodb-local: installing into {folder}, once (half a minute)", file=sys.stderr)
    lib = folder / "lib"
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
    run(["mvn", "-q", "-B", "-C", "-f", JAVA / "pom.xml", *goal], "fetching DynamoDB Local")
    wanted = dict(reversed(line.split()) for line in (JAVA / "jars.sha256").read_text().splitlines())
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in lib.iterdir()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise Failure(f"mvn brought other files than java/jars.sha256 names: {', '.join(wrong[:5])}. "
                      "If java/pom.xml was changed on purpose, write the list anew with sha256sum")
    run(["javac", "-cp", f"{lib}/*", "-d", folder, JAVA / "LoopbackDynamo.java"], "compiling the launcher")


def _interpreter():
    """A Python of the right version that can make a virtual environment, or None."""
    version = ".".join(map(str, PYTHON))
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv") / "versions"
    named = os.environ.get("STEPWELL_PYTHON")
    candidates = [named] if named else [
        f"python{version}", "python3", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)
    ]
    asks = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != {PYTHON})"
    for candidate in candidates:
        # pyenv's shims stand on PATH also for versions that are not chosen: only running one tells.
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", asks], capture_output=True).returncode == 0:
            return path
    return None


def _java_version(command):
    """The major version of `java` or `javac`, 0 if there is none."""
    try:
        told = subprocess.run([command, "-version"], capture_output=True, text=True)
    except OSError:
        return 0
    number = re.search(r"(\d+)(?:\.\d+)*", told.stderr + told.stdout)
    return int(number[1]) if told.returncode == 0 and number else 0
