"""Many runs, many items, large values, on the deployed stack."""

import random
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import stack

# A machine that does other work beside takes ten times as long; how long it took is printed.
PATIENCE = 400


def setUpModule():
    global the, agents
    the, agents = stack.the(), stack.Agents()
    agents.register(the, "worker")
    agents.register(the, "large", outputLimit=16 << 20)


def tearDownModule():
    agents.close()


def say(text):
    print(f"    {text}", flush=True)


class Test(unittest.TestCase):
    def setUp(self):
        agents.forget()

    def assertOnce(self, count):
        """So many calls, each of a key of its own."""
        performed = agents.performed()
        self.assertEqual({key: times for key, times in performed.items() if times != 1}, {}, "performed more than once")
        self.assertEqual(len(performed), count)


class Many(Test):
    def test_two_hundred_runs_at_once_all_end_and_do_each_step_once(self):
        workflow = the.register_workflow("""
id: load-many
states:
  - {id: first, type: agent, agent: worker, task: "{{ workflow.input.number }}", next: fan}
  - id: fan
    type: parallel
    branches:
      - {name: left, agent: worker, task: left}
      - name: right
        states:
          - {id: pause, type: wait, duration: 2s, next: look}
          - {id: look, type: agent, agent: worker, end: true}
    next: last
  - {id: last, type: agent, agent: worker, task: "{{ steps.first.n }}", end: true}
""")
        agents.answer("worker", lambda call: {"n": call.task})
        begun = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            runs = list(pool.map(lambda number: the.start(workflow, {"number": number}), range(200)))
        started = time.monotonic() - begun
        views = the.wait_all(runs, PATIENCE)
        say(f"200 runs: started in {started:.1f} s, all over after {time.monotonic() - begun:.1f} s")
        self.assertEqual(len(set(runs)), 200)
        self.assertEqual([view["output"]["n"] for view in views], list(range(200)))
        self.assertOnce(200 * 4)
        for run in runs:
            self.assertEqual(sorted(call.request["state"] for call in agents.calls(run=run)), sorted(["first", "left", "look", "last"]))
        the.until_quiet(the.delayed())
        self.assertEqual([the.depth(f"{queue}DeadLetterQueue") for queue in ("Steps", "Resume")], [(0, 0, 0)] * 2)

    def test_a_foreach_of_a_thousand_does_each_item_once_and_keeps_their_order(self):
        workflow = the.register_workflow("""
id: load-each
states:
  - id: each
    type: foreach
    itemsPath: items
    maxConcurrency: 40
    iterator: {agent: worker, task: "{{ item }}"}
    end: true
""")
        agents.answer("worker", lambda call: {"twice": int(call.task) * 2})
        begun = time.monotonic()
        run = the.start(workflow, {"items": list(range(1000))})
        view = the.wait(run, PATIENCE, "COMPLETED")
        say(f"foreach of 1,000: {time.monotonic() - begun:.1f} s")
        self.assertEqual([each["twice"] for each in view["output"]["results"]], [2 * number for number in range(1000)])
        self.assertOnce(1000)

    def test_a_foreach_of_two_hundred_short_waits_is_not_held_up(self):
        workflow = the.register_workflow("""
id: load-waits
states:
  - id: each
    type: foreach
    itemsPath: items
    maxConcurrency: 200
    iterator: {states: [{id: pause, type: wait, duration: 2s, end: true}]}
    end: true
""")
        begun = time.monotonic()
        run = the.start(workflow, {"items": list(range(200))})
        view = the.wait(run, PATIENCE, "COMPLETED")
        say(f"foreach of 200 waits of 2 s: {time.monotonic() - begun:.1f} s")
        self.assertEqual(view["output"]["count"], 200)


class Large(Test):
    def test_a_value_of_5_mb_goes_through_the_bucket_and_comes_back_whole(self):
        workflow = the.register_workflow("""
id: load-large
states:
  - {id: make, type: agent, agent: large, next: look}
  - {id: look, type: transform, expression: "{'length': len(input.text), 'end': input.text[-8:]}", resultPath: seen, next: give}
  - {id: give, type: agent, agent: worker, input: "{{ steps.make }}", output: {all: "{{ seen }}"}, end: true}
""")
        # As random as it gets, so that packing it saves little.
        text = random.Random(7).randbytes(5 * 512 * 1024).hex()
        agents.answer("large", {"text": text})
        before = the.objects()
        run = the.start(workflow)
        view = the.wait(run, status="COMPLETED")
        self.assertEqual(view["context"]["seen"], {"length": len(text), "end": text[-8:]})
        given = agents.calls("worker", run)
        self.assertEqual(given[0].request["input"], {"text": text}, "the next step got another one")
        stored = {key: size for key, size in the.objects().items() if key not in before}
        self.assertTrue(stored and max(stored.values()) > 1 << 20, stored)
        largest = max(sum(len(str(value)) for value in item.values()) for item in the.items(run))
        self.assertLess(largest, 400_000, "an item of the table")

    def test_a_run_too_large_to_be_shown_ends_and_says_that_it_cannot_be_shown(self):
        workflow = the.register_workflow("""
id: load-larger
states:
  - {id: one, type: agent, agent: large, next: other}
  - {id: other, type: agent, agent: large, end: true}
""")
        agents.answer("large", {"text": random.Random(8).randbytes(4 * 512 * 1024).hex()})
        run = the.start(workflow)

        def listed():
            return next(each for each in the.runs(workflow) if each["runId"] == run)["status"] == "COMPLETED"

        the.until(listed, otherwise=lambda: the.describe(run))
        shown = the.request("GET", f"/api/v1/workflow-runs/{run}")
        self.assertEqual((shown.status, shown.code), (413, "ANSWER_TOO_LARGE"), str(shown.body)[:500])
        self.assertOnce(2)
