"""Ends the process groups of a process that was killed: it is told of them through a pipe, and acts when that closes.

(A parent-death signal will not do: on Linux it comes with the end of the *thread* that started the child.)
"""

import os
import signal
import subprocess
import sys
import threading


class Watchdog:
    """Tells a process that outlives ours which process groups to end then."""

    _shared = None
    _lock = threading.Lock()

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    @classmethod
    def shared(cls):
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    def watch(self, group):
        self._tell(f"+{group}")

    def forget(self, group):
        self._tell(f"-{group}")

    def _tell(self, line):
        with self._lock:
            try:
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                pass  # somebody ended it: nothing depends on it while we live


def main():
    groups = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


if __name__ == "__main__":
    main()
