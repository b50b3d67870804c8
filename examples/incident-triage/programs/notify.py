"""notification-sender: "sends" to the demo's outbox, a file, once for each idempotency key."""

import json
import os

import machine

request = machine.request()
variables = request["variables"]
message = {
    "channel": variables["channel"],
    "text": variables.get("summary") or variables.get("message"),
    "key": request["idempotencyKey"],
}
outbox = os.path.join(machine.DIR, "outbox.jsonl")
sent = []
if os.path.exists(outbox):
    with open(outbox) as file:
        sent = [json.loads(line)["key"] for line in file]
if message["key"] not in sent:
    with open(outbox, "a") as file:
        file.write(json.dumps(message) + "\n")
machine.answer({"ok": True, "channel": message["channel"], "text": message["text"]})
