"""The command line against the deployed stack: every verb that makes sense there; and what the functions log of it."""

import json
import os
import pathlib
import secrets
import subprocess
import tempfile
import unittest

import stack

PROGRAM = pathlib.Path(os.environ.get("STEPWELL") or stack.ROOT / "target" / "debug" / "stepwell")
ASKS = """
id: cli-asks
states:
  - {id: gate, type: human_approval, message: "Go on?", next: work}
  - {id: work, type: agent, agent: cli-worker, task: "work", next: hold}
  - {id: hold, type: signal, signal: go, next: last}
  - {id: last, type: operation, action: log, message: "done", end: true}
"""
NEW = "id: cli-new-{}\nstates:\n  - {{id: only, type: inject, data: {{x: 1}}}}\n"


class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not PROGRAM.exists():
            raise SystemExit(f"{PROGRAM} is not built: cargo build --bin stepwell (`make test-aws` calls it)")
        cls.the, cls.agents = stack.the(), stack.Agents()
        cls.addClassCleanup(cls.agents.close)
        folder = tempfile.TemporaryDirectory(prefix="stepwell-cli-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / "agents").mkdir()
        (cls.folder / "workflows").mkdir()
        cls.file = cls.folder / "workflows" / "cli-asks.workflow.yaml"
        cls.file.write_text(ASKS)
        agent = {"type": "http", "method": "POST", "url": cls.agents.url("cli-worker")}
        (cls.folder / "agents" / "cli-worker.agent.yaml").write_text(json.dumps(agent))

    def stepwell(self, *arguments, code=0, text=False):
        """What it prints, as JSON."""
        environment = {
            **os.environ, **stack.instance.CREDENTIALS, "AWS_REGION": stack.instance.REGION, "STEPWELL_API_URL": self.the.api, "STEPWELL_ENDPOINT": "aws",
            "STEPWELL_USER": "user:ann", "NO_COLOR": "1",
        }
        environment.pop("STEPWELL_STACK", None)
        command = [PROGRAM, *map(str, arguments), "--output", "text" if text else "json"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}\n{done.stderr}")
        return done.stdout if text else [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def test_a_project_is_deployed_and_a_run_of_it_led_to_its_end(self):
        (self.folder / "workflows" / "new.workflow.yaml").write_text(NEW.format(secrets.token_hex(4)))
        # Code 1: there is something to do.
        self.assertRegex(self.stepwell("deploy", ".", "--check", text=True, code=1), "created +workflow cli-new-")
        self.assertRegex(self.stepwell("deploy", ".", text=True), "created +workflow cli-new-")
        self.assertNotIn("created", self.stepwell("deploy", ".", "--check", text=True))
        self.stepwell("doctor", text=True)
        # Code 6: it waits.
        run = self.stepwell("run", self.file, "--wait", "1s", "--quiet", code=6)[-1]["runId"]
        self.assertIn(run, self.stepwell("runs", "ls", "--workflow", "cli-asks", text=True))
        self.the.until_status(run, "WAITING_APPROVAL")
        self.assertIn("Go on?", self.stepwell("approvals", "ls", "--run", run, text=True))
        self.stepwell("runs", "pause", run)
        self.the.until_status(run, "PAUSED")
        self.stepwell("runs", "resume", run)
        self.the.until_status(run, "WAITING_APPROVAL")
        self.stepwell("approve", run, "--comment", "fine")
        self.the.until_status(run, "WAITING_SIGNAL")
        self.stepwell("signal", run, "go", "--payload", "{}")
        self.stepwell("runs", "get", run, "--wait", "25s")
        self.assertEqual(self.the.wait(run, status="COMPLETED")["runId"], run)
        told = self.stepwell("runs", "timeline", run, "--follow", text=True)
        for state in ("gate", "work", "hold", "last"):
            self.assertIn(state, told)
        self.logged(run)

    def test_a_run_is_rejected_redriven_and_cancelled(self):
        self.stepwell("deploy", ".")
        run = self.stepwell("run", self.file, "--wait", "1s", "--quiet", code=6)[-1]["runId"]
        self.the.until_status(run, "WAITING_APPROVAL")
        self.stepwell("reject", run, "--reason", "not today")
        self.the.wait(run, status="FAILED")
        self.stepwell("runs", "redrive", run)
        self.the.until_status(run, "WAITING_APPROVAL")
        self.stepwell("runs", "cancel", run, "--reason", "enough")
        self.the.wait(run, status="CANCELLED")

    def logged(self, run):
        """Each line says whose it is."""
        def lines():
            return [line for line in self.the.logs("step") if isinstance(line, dict) and line.get("run") == run
                    and line.get("message") == "an attempt succeeded" and line.get("state") == "work"]
        [line] = self.the.until(lines)
        self.assertEqual((line["scope"], line["attempt"], line["level"]), ("/", 1, "INFO"))
        self.assertRegex(line["requestId"], r"^[0-9a-f-]{36}$")
        self.assertRegex(line["timestamp"], r"^20\d\d-\d\d-\d\dT")
        script = [stack.ROOT / "localstack" / "logs", "--state", self.the.folder, "step"]
        printed = subprocess.run(script, capture_output=True, text=True, timeout=60)
        self.assertIn(line["requestId"], printed.stdout, printed.stderr)


if __name__ == "__main__":
    unittest.main()
