"""k8s-remediator: restarts the unhealthy service, once for each idempotency key.

A step that is performed again after a crash comes with the same key: then the restart that was done is reported, not done again.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import machine

PATIENCE = 10


def wait_for(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            machine.fail("remediation_failed", "%s did not happen within %d s" % (what, PATIENCE))
        time.sleep(0.05)


request = machine.request()
key = hashlib.sha256(request["idempotencyKey"].encode()).hexdigest()[:16]
done = os.path.join(machine.DIR, "restarted-" + key)
if os.path.exists(done):
    with open(done) as file:
        machine.answer(json.load(file))
    sys.exit(0)

before = machine.instance()
if before is None or not machine.is_running(before[0]):
    machine.fail("nothing_to_restart", "checkout does not run")
memory = machine.memory_mb(before[0])

# A session of its own: it is to outlive this program. Nothing of the step's environment goes along.
service = os.path.join(os.path.dirname(os.path.abspath(__file__)), "service.py")
subprocess.Popen(
    [sys.executable, service],
    env={"DEMO_DIR": machine.DIR},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
)
wait_for("the start of the new instance", lambda: machine.instance() != before and machine.listens(machine.instance()[1]))
try:
    os.kill(before[0], signal.SIGTERM)
except ProcessLookupError:
    pass
wait_for("the end of the old instance", lambda: not machine.is_running(before[0]))
wait_for("the first requests of the new instance", lambda: machine.requests(20)[0] >= 20)

after = machine.instance()
count, failed, _ = machine.requests(20)
result = {
    "result": "checkout restarted: pid %d (%d MB) gone, pid %d (%d MB) serves, %d of its first %d requests failed"
    % (before[0], memory, after[0], machine.memory_mb(after[0]), failed, count),
    "restarted": ["checkout-%d" % before[0]],
}
with open(done + ".new", "w") as file:
    json.dump(result, file)
os.replace(done + ".new", done)
machine.answer(result)
