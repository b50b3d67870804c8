"""The acceptance workflows, which others wrote, through the REST API, the queues and the functions: each case of their
`*.test.yaml`. They lie beside the clone ($ACCEPTANCE); without them this is skipped, aloud.
"""

import datetime
import os
import pathlib
import re
import unittest
import zoneinfo

import yaml

import journey
import stack

FOLDER = pathlib.Path(os.environ.get("ACCEPTANCE") or stack.ROOT.parent / "shared" / "acceptance")
FILES = sorted(FOLDER.glob("*/*.test.yaml"))


def setUpModule():
    global the, agents
    the, agents = stack.the() if FILES else None, stack.Agents()


def tearDownModule():
    agents.close()


class Acceptance(unittest.TestCase):
    maxDiff = None

    def play(self, file, case):
        """Plays one case and holds what came of it against what it expects."""
        tests = yaml.safe_load(file.read_text())
        source = (file.parent / tests["workflow"]).read_text()
        definition = yaml.safe_load(source)
        agents.forget()
        agents.register(the, *{name for each in tests["tests"] for name in each.get("agents", {})})
        for name, stub in case.get("agents", {}).items():
            agents.answer(name, answer(stub))
        workflow = the.register_workflow(source, tests["workflow"])
        expect = case["expect"]
        if "trigger" in case:
            run = self.ticked(workflow, definition, case["trigger"]["cron"])
        else:
            body = {"workflowId": workflow, "input": case.get("input", {})}
            started = the.request("POST", "/api/v1/workflow-runs", body)
            if "refused" in expect:
                self.assertEqual(started.code, expect["refused"]["code"], started.body)
                violations = {each["path"] for each in started.body["details"]["violations"]}
                self.assertEqual(violations, set(expect["refused"]["paths"]))
                self.assertEqual(agents.calls(), [])
                return
            self.assertEqual(started.status, 201, started.body)
            run = started.body["runId"]
        view = self.until_over(run, case.get("approvals", {}))
        self.check(run, view, definition, expect)

    def ticked(self, workflow, definition, state):
        """The run that the next tick of a schedule starts: one, though every sweep of three minutes sees the tick."""
        schedule = next(each for each in definition["states"] if each.get("name") == state)
        self.addCleanup(the.disable_workflow, workflow)
        before = {each["runId"] for each in the.runs(workflow)}
        the.advance_to(next_tick(schedule["cron"], schedule["timezone"], the.now()) + datetime.timedelta(seconds=1))
        the.sweep()
        the.sweep()
        new = {each["runId"] for each in the.runs(workflow)} - before
        self.assertEqual(len(new), 1, new)
        return new.pop()

    def until_over(self, run, decisions):
        """Decides what the case decides; where it decides nothing, nobody answers until the deadline is over."""
        def moved():
            view = the.get(run)
            return view if view["status"] in stack.OVER | {"WAITING_APPROVAL"} else None

        while (view := the.until(moved, otherwise=lambda: the.describe(run)))["status"] not in stack.OVER:
            asked = the.question(run)
            decision = decisions.get(asked["state"])
            if decision is None:
                deadline = datetime.datetime.fromisoformat(asked["deadline"])
                the.advance_to(deadline + datetime.timedelta(seconds=1))
                the.sweep()
                return the.wait(run)
            comment = decision.get("comment") or decision.get("reason")
            decided = the.decide(run, asked["approvalId"], decision["decision"], approver=decision["approver"], comment=comment)
            self.assertEqual(decided.status, 200, decided.body)
            return the.wait(run)
        return view

    def check(self, run, view, definition, expect):
        self.assertEqual(view["status"], expect["status"], the.describe(run))
        if "path" in expect:
            way = journey.path(the.timeline(run), definition)
            self.assertTrue(journey.matches(expect["path"], way), f"expected {expect['path']}\n     came {way}")
        for place, value in expect.get("context", {}).items():
            self.assertEqual(value_at(view, place), value, place)
        if "output" in expect:
            self.assertEqual(view.get("output"), expect["output"])
        if "error" in expect:
            error = view["error"]
            self.assertEqual(error["type"], expect["error"].get("type", error["type"]))
            said = error["message"] + str(error.get("cause", {}))
            self.assertIn(expect["error"].get("contains", ""), said)
        calls = agents.calls(run=run)
        self.assertEqual(len(calls), len(agents.calls()), "calls of other runs")
        self.assertEqual(set(agents.performed(run=run).values()) - {1}, set(), "performed more than once")
        for agent in {each["agent"] for each in expect.get("calls", [])}:
            made = iter([call.request for call in calls if call.agent == agent])
            for wanted in (each for each in expect["calls"] if each["agent"] == agent):
                self.assertTrue(any(holds(wanted, request) for request in made), f"{wanted} is not in {calls}")
        for agent in expect.get("notCalled", []):
            self.assertEqual(agents.calls(agent), [])
        asked = the.approvals(run)
        for wanted in expect.get("approvals", []):
            self.assertTrue(any(holds(wanted, each) for each in asked), f"{wanted} is not in {asked}")


def answer(stub):
    """What an agent answers, as a test file says it."""
    if "calls" in stub:
        return [answer(each) for each in stub["calls"]]
    if "error" in stub:
        return stack.Reply(value={"error": stub["error"]}, status=422)
    return stub["output"]


def holds(wanted, found):
    """Whether a value has at least what is wanted."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(name in found and holds(value, found[name]) for name, value in wanted.items())
    return wanted == found


def value_at(view, place):
    """The context's value at a path; `output` and `result` of a result are the result itself, as the language has it."""
    parts = place.removeprefix("ctx.").split(".")
    value = {**view["context"], "workflow": {"input": view["input"]}}
    for part in parts:
        if part in ("output", "result") and part not in value:
            continue
        value = value[part]
    return value


def next_tick(cron, zone, after):
    """The next time of a daily schedule (`M H * * *`)."""
    minute, hour = map(int, re.fullmatch(r"(\d+) (\d+) \* \* \*", cron).groups())
    local = after.astimezone(zoneinfo.ZoneInfo(zone))
    tick = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if tick <= local:
        tick = (tick.replace(tzinfo=None) + datetime.timedelta(days=1)).replace(tzinfo=tick.tzinfo)
    return tick.astimezone(datetime.timezone.utc)


def _tests():
    for file in FILES:
        for number, case in enumerate(yaml.safe_load(file.read_text())["tests"]):
            def test(self, file=file, case=case):
                self.play(file, case)

            test.__doc__ = f"{file.parent.name}: {case['name']}"
            name = re.sub(r"\W+", "_", f"{file.parent.name} {number} {case['name']}")
            setattr(Acceptance, f"test_{name}", test)
    if not FILES:
        Acceptance.test_skipped = lambda self: self.skipTest(f"acceptance: skipped, there is no {FOLDER}")


_tests()
