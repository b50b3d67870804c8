"""The environments without LocalStack: a process, its Runtime API, time-outs, ends."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PLUGIN = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PLUGIN))

from stepwell_localstack.clock import now_ms  # noqa: E402
from stepwell_localstack.environment import MAX_RESPONSE_BYTES, Environment, InitError  # noqa: E402
from stepwell_localstack.runtime_api import Invocation  # noqa: E402


class Environments(unittest.TestCase):
    def setUp(self):
        self.code = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.code)
        shutil.copy(PLUGIN / "tests" / "bootstrap.py", self.code / "bootstrap")

    def environment(self, init_seconds=20, **variables):
        made = Environment(self.code, {"PATH": os.environ["PATH"], **variables}, init_seconds)
        self.addCleanup(made.stop)
        return made

    def invoke(self, environment, seconds=20, **event):
        invocation = Invocation("r1", "arn", json.dumps(event).encode(), now_ms() + int(seconds * 1000))
        payload, is_error = environment.invoke(invocation, seconds)
        return json.loads(payload), is_error

    def refused(self, **options):
        with self.assertRaises(InitError) as caught:
            self.environment(**options)
        return json.loads(caught.exception.payload)

    def test_one_process_serves_many_invocations_and_each_has_its_own_lines(self):
        environment = self.environment()
        before = now_ms()
        first, is_error = self.invoke(environment, say="one", seconds=9)
        self.assertFalse(is_error)
        self.assertAlmostEqual(first["deadline"], before + 9000, delta=3000)
        self.assertEqual(environment.logs(), "one\n")
        second, _ = self.invoke(environment, say="two", chunked=True)
        self.assertEqual((second["count"], second["pid"]), (2, first["pid"]))
        self.assertEqual(environment.logs(), "two\n")

    def test_a_functions_error_is_passed_on_and_the_process_stays(self):
        environment = self.environment()
        answer, is_error = self.invoke(environment, fail=True)
        self.assertTrue(is_error)
        self.assertEqual(answer["count"], 1)
        self.assertEqual(self.invoke(environment)[0]["count"], 2)

    def test_an_invocation_over_its_time_is_ended_with_all_it_started(self):
        environment = self.environment()
        child = self.invoke(environment, child=True)[0]["child"]
        began = time.monotonic()
        answer, is_error = self.invoke(environment, seconds=0.3, sleep=30)
        self.assertLess(time.monotonic() - began, 10)
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Sandbox.Timedout")
        self.assertIn("RequestId: r1 Error: Task timed out after 0.30 seconds", answer["errorMessage"])
        self.assertFalse(environment.alive)
        self.assertGone(child)

    def test_a_crash_is_an_error_at_once(self):
        environment = self.environment()
        began = time.monotonic()
        answer, is_error = self.invoke(environment, exit=3, say="last words")
        self.assertLess(time.monotonic() - began, 10)
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Runtime.ExitError")
        self.assertIn("exit status: 3", answer["errorMessage"])
        self.assertEqual(environment.logs(), "last words\n")
        self.assertFalse(environment.alive)

    def test_an_answer_may_have_six_megabytes_and_no_more(self):
        environment = self.environment()
        answer, is_error = self.invoke(environment, size=MAX_RESPONSE_BYTES)
        self.assertFalse(is_error)
        self.assertEqual(len(answer), MAX_RESPONSE_BYTES - 2)
        answer, is_error = self.invoke(environment, size=MAX_RESPONSE_BYTES + 1)
        self.assertTrue(is_error)
        self.assertEqual(answer["errorType"], "Function.ResponseSizeTooLarge")

    def test_a_process_that_does_not_get_ready_says_why(self):
        self.assertEqual(self.refused(INIT="error"), {"errorType": "Told", "errorMessage": "no table"})
        self.assertIn("exit status: 1", self.refused(INIT="exit")["errorMessage"])
        self.assertIn("Init phase timed out after 0.50", self.refused(INIT="sleep", init_seconds=0.5)["errorMessage"])
        (self.code / "bootstrap").unlink()
        self.assertEqual(self.refused()["errorType"], "Runtime.InvalidEntrypoint")

    def test_stopping_ends_an_invocation_that_runs(self):
        environment = self.environment()
        threading.Timer(0.3, environment.stop).start()
        answer, is_error = self.invoke(environment, sleep=30)
        self.assertTrue(is_error)
        self.assertIn("SIGTERM", answer["errorMessage"])

    def test_output_that_nobody_reads_does_not_stop_the_process(self):
        environment = self.environment()
        self.invoke(environment, say="x" * 1_000_000)
        self.assertEqual(len(environment.logs()), 1_000_001)

    def test_nothing_survives_the_death_of_the_owner(self):
        script = (
            f"import os, sys; sys.path.insert(0, {str(PLUGIN)!r})\n"
            "from stepwell_localstack.environment import Environment\n"
            f"environment = Environment({str(self.code)!r}, dict(os.environ))\n"
            "print(environment.pid, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        told = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60)
        self.assertGone(int(told.stdout))

    def assertGone(self, pid):
        for _ in range(200):
            state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
            if not state or state.startswith("Z"):
                return
            time.sleep(0.05)
        self.fail(f"process {pid} still runs")


if __name__ == "__main__":
    unittest.main()
