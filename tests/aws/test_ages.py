"""What takes longer than anybody waits: minutes and days that a run waits, and the days after which it is forgotten."""

import unittest

import stack


def setUpModule():
    global the, agents
    the, agents = stack.the(), stack.Agents()
    agents.register(the, "worker", "large", outputLimit=16 << 20)


def tearDownModule():
    agents.close()


class Waits(unittest.TestCase):
    """Waits longer than a queue can hold a message."""

    def setUp(self):
        agents.forget()

    def test_nothing_is_in_the_queues_while_runs_wait_for_days(self):
        workflow = the.register_workflow("""
id: ages-patient
states:
  - {id: before, type: agent, agent: worker, next: cool_down}
  - {id: cool_down, type: wait, duration: "{{ workflow.input.time }}", next: after}
  - {id: after, type: agent, agent: worker, end: true}
""")
        others = the.delayed()
        short, long = (the.start(workflow, {"time": time}) for time in ("20m", "3d"))
        for run in (short, long):
            the.until_status(run, "WAITING_TIMER")
        the.until_quiet(others)
        begun = [len(the.records(run)) for run in (short, long)]
        due = {run: [item for item in the.items(run) if item["sk"]["S"].startswith("D#")] for run in (short, long)}
        self.assertEqual([len(entries) for entries in due.values()], [1, 1], "each is found by its entry in the due index")

        the.advance(minutes=15)
        the.sweep()
        the.until_quiet(others)
        self.assertEqual([the.status_of(run) for run in (short, long)], ["WAITING_TIMER"] * 2)
        self.assertEqual([len(the.records(run)) for run in (short, long)], begun, "nobody did anything")

        the.advance(minutes=6)
        the.sweep()
        the.wait(short, status="COMPLETED")
        the.until_quiet(others)
        self.assertEqual(the.status_of(long), "WAITING_TIMER")
        the.advance(days=3)
        the.sweep()
        the.wait(long, status="COMPLETED")
        self.assertEqual(sorted(agents.performed().values()), [1] * 4)


class Retention(unittest.TestCase):
    def test_a_run_that_is_over_for_long_enough_is_forgotten_with_all_that_it_has(self):
        workflow = the.register_workflow("""
id: ages-forgotten
states:
  - id: fan
    type: parallel
    branches: [{name: a, agent: large}, {name: b, agent: worker}]
    next: gate
  - {id: gate, type: human_approval, message: "well?", timeoutSeconds: 200d, end: true}
""")
        agents.answer("large", {"text": "".join(map(str, range(200_000)))})
        before = set(the.objects())
        over = the.start(workflow)
        the.approve(over, "user:alice@example.com")
        the.wait(over, status="COMPLETED")
        its = set(the.objects()) - before
        self.assertTrue(its, "it has something in the bucket")
        waiting = the.start(workflow)
        the.question(waiting)
        others = set(the.objects()) - before - its
        kept = len(the.records(waiting))

        the.advance(days=89)
        the.sweep()
        self.assertEqual(the.status_of(over), "COMPLETED", "its time is not over")
        the.advance(days=2)
        # What is older goes first, some of it with each sweep.
        the.until(lambda: the.sweep() or the.items(over) == [], 300, lambda: f"it still has {the.items(over)}")
        self.assertEqual(the.request("GET", f"/api/v1/workflow-runs/{over}").status, 404)
        self.assertNotIn(over, [run["runId"] for run in the.runs(workflow)])
        self.assertEqual((the.status_of(waiting), len(the.records(waiting))), ("WAITING_APPROVAL", kept), "it is not over")
        left = set(the.objects())
        self.assertEqual((its & left, others - left), (set(), set()), "of the bucket only what is its own")
        the.approve(waiting, "user:alice@example.com")
        the.wait(waiting, status="COMPLETED")
