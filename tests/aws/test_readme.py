"""The newcomer's path: what the README says to run on LocalStack, run as written, from nothing to a run that a person approved."""

import json
import os
import re
import subprocess
import tempfile
import unittest

import stack


class Readme(unittest.TestCase):
    def test_a_newcomer_gets_from_nothing_to_a_run_that_was_approved(self):
        text = (stack.ROOT / "README.md").read_text()
        blocks = re.findall(r"^```sh localstack\n(.*?)^```", text, flags=re.M | re.S)
        self.assertEqual(len(blocks), 3)
        *steps, end = blocks
        with tempfile.TemporaryDirectory(prefix="stepwell-readme-") as folder:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            environment["STEPWELL_LOCALSTACK"] = folder
            script = "".join(["set -euo pipefail\n", *steps, end])
            try:
                ran = subprocess.run(
                    ["bash", "-c", script], cwd=stack.ROOT, env=environment, capture_output=True, text=True, timeout=600
                )
            finally:
                # Whatever became of it.
                subprocess.run([stack.ROOT / "localstack" / "down", "--state", folder], capture_output=True, check=False)
        self.assertEqual(ran.returncode, 0, f"{ran.stdout}\n{ran.stderr}")
        self.assertIn('"message":"Restart checkout?"', ran.stderr, "what is asked")
        *_, ended = answers(ran.stdout)
        self.assertEqual(ended["status"], "COMPLETED", ended)


def answers(output):
    """The JSON documents that were printed one after another."""
    decoder, at = json.JSONDecoder(), output.find("{")
    while at >= 0:
        value, end = decoder.raw_decode(output, at)
        yield value
        at = output.find("{", end)
