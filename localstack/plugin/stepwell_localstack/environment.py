"""One execution environment: a process that serves invocations one after another, as Lambda would run it.

The process is lost with a time-out and with its own end; `alive` says so, and whoever owns the environment makes another.
"""

import json
import os
import pathlib
import selectors
import signal
import subprocess
import threading

from .runtime_api import RuntimeApi
from .watchdog import Watchdog

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB, and a little for what is around it.
MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
INIT_SECONDS = 10
# How long a process may take to end when it is retired, as with Lambda.
SHUTDOWN_SECONDS = 0.5
# What is written after an answer belongs to its invocation; a runtime asks for the next one at once.
AFTERMATH_SECONDS = 0.1


class InitError(Exception):
    """The process did not get as far as asking for work."""

    def __init__(self, payload, logs):
        super().__init__(payload.decode("utf-8", "replace"))
        self.payload = payload
        self.logs = logs


class Environment:
    def __init__(self, code, variables, init_seconds=INIT_SECONDS):
        """Starts `bootstrap` in the folder `code`. Raises InitError unless it asks for work in time."""
        self._api = RuntimeApi()
        self._logs = None
        self._process = None
        try:
            self._spawn(pathlib.Path(code), variables)
            if not self._api.until_idle(init_seconds):
                raise InitError(self._why_not(init_seconds), self.logs())
        except BaseException:
            self._kill()
            self._api.close()
            raise

    def _spawn(self, code, variables):
        try:
            self._process = subprocess.Popen(
                [code / "bootstrap"],
                cwd=code,
                env={**variables, "LAMBDA_TASK_ROOT": str(code), "AWS_LAMBDA_RUNTIME_API": self._api.address},
                start_new_session=True,  # so that its children end with it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise InitError(problem("Runtime.InvalidEntrypoint", f"Error: {error}"), "") from error
        Watchdog.shared().watch(self._process.pid)
        self._logs = _Lines(self._process.stdout)
        threading.Thread(target=self._attend, name="lambda-process", daemon=True).start()

    def _attend(self):
        self._process.wait()
        self._kill()  # what it leaves behind
        Watchdog.shared().forget(self._process.pid)
        self._api.close()

    def _why_not(self, init_seconds):
        if self._api.init_error:
            return self._api.init_error
        if self._process.poll() is None:
            return problem("Sandbox.Timedout", f"Error: Init phase timed out after {init_seconds:.2f} seconds")
        return problem("Runtime.ExitError", f"Error: Runtime exited before it asked for work ({self._end()})")

    @property
    def alive(self):
        return self._process.poll() is None

    @property
    def pid(self):
        return self._process.pid

    def invoke(self, invocation, seconds):
        """(payload, whether it is an error): what the function answered, or Lambda's error in its place."""
        outcome = self._api.invoke(invocation, seconds)
        if outcome is None:
            told = f"RequestId: {invocation.request_id} Error: "
            if self.alive:
                self._kill()
                return problem("Sandbox.Timedout", f"{told}Task timed out after {seconds:.2f} seconds"), True
            return problem("Runtime.ExitError", f"{told}Runtime exited ({self._end()})"), True
        self._api.until_idle(AFTERMATH_SECONDS)
        if len(outcome.payload) > MAX_RESPONSE_BYTES:
            return problem(
                "Function.ResponseSizeTooLarge",
                f"Response payload size ({len(outcome.payload)} bytes) exceeded maximum allowed payload size "
                f"({MAX_RESPONSE_BYTES} bytes).",
            ), True
        return outcome.payload, outcome.is_error

    def logs(self):
        """What has been written since this was last asked."""
        return self._logs.take() if self._logs else ""

    def stop(self):
        """Ends the process, politely first. May be called twice, and while another thread waits for an invocation."""
        if self._process and self.alive:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
        self._api.close()

    def _kill(self):
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number):
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody of the group is left

    def _end(self):
        code = self._process.wait()
        return f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status: {code}"


class _Lines:
    """A process's output. Read by a thread of its own, so that the pipe never fills, and by `take`, so that what was
    written before an answer is there when the answer is."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._lock = threading.Lock()
        self._read = bytearray()
        os.set_blocking(pipe.fileno(), False)
        threading.Thread(target=self._follow, name="lambda-output", daemon=True).start()

    def take(self):
        with self._lock:
            self._drain()
            taken, self._read = self._read, bytearray()
        return taken.decode("utf-8", "replace")

    def _follow(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            more = True
            while more:
                selector.select()
                with self._lock:
                    more = self._drain()
        with self._lock:
            self._pipe.close()

    def _drain(self):
        """Whether there may be more."""
        while not self._pipe.closed:
            try:
                piece = os.read(self._pipe.fileno(), 65536)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._read += piece
        return False


def problem(kind, message):
    """An error as Lambda words it."""
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
