"""slo-analyzer: which share of the last requests failed? It reads the service's own log."""

import machine

WINDOW = 100

request = machine.request()
try:
    count, failed, recent = machine.requests(WINDOW)
except FileNotFoundError:
    machine.fail("no_log", "there is no log to read at %s" % machine.LOG)
machine.answer({
    "service": request["task"].rsplit(" ", 1)[-1],
    "requests": count,
    "errors": failed,
    "error_rate": round(failed / count, 4) if count else 0.0,
    "recent_errors": recent,
})
