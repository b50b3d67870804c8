"""What the agents' programs share: the request, the answer, and facts of this machine.

An agent of type `command` gets its request as JSON on stdin and answers with JSON on stdout. An exit code that is not 0 and
`{"error": {"type", "message"}}` is an error of its own type.
"""

import json
import os
import shutil
import socket
import subprocess
import sys

DIR = os.environ["DEMO_DIR"]
LOG = os.path.join(DIR, "checkout.log")


def request():
    return json.load(sys.stdin)


def answer(output):
    json.dump(output, sys.stdout)


def fail(kind, message):
    answer({"error": {"type": kind, "message": message}})
    sys.exit(1)


def instance():
    """Process id and port of the service that runs now."""
    try:
        with open(os.path.join(DIR, "checkout.pid")) as file:
            pid, port = file.read().split()
        return int(pid), int(port)
    except (OSError, ValueError):
        return None


def is_running(pid):
    """Whether this process is the demo's service: a process id alone may be somebody else's by now."""
    return "service.py" in ps(pid, "args")


def ps(pid, field):
    try:
        with open("/proc/%d/%s" % (pid, {"args": "cmdline", "rss": "status"}[field])) as file:
            text = file.read()
        if field == "args":
            return text.replace("\0", " ")
        return next((line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:")), "")
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
        return subprocess.run(["ps", "-o", field + "=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def memory_mb(pid):
    return int(ps(pid, "rss") or 0) // 1024


def listens(port):
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def listening_ports():
    """The ports that anything on this machine listens on, where /proc says so."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        ports.update(int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A")
    return sorted(ports)


def facts():
    """Processes, memory, disk, load and ports of this machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    memory = {"total_mb": os.sysconf("SC_PHYS_PAGES") * page >> 20}
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        memory["available_mb"] = int(lines["MemAvailable"].split()[0]) >> 10
    if os.path.isdir("/proc/self"):
        processes = sum(name.isdigit() for name in os.listdir("/proc"))
    else:
        processes = len(subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True).stdout.split())
    disk = shutil.disk_usage(DIR)
    return {
        "processes": processes,
        "load": round(os.getloadavg()[0], 2),
        "memory": memory,
        "disk_free_percent": round(100 * disk.free / disk.total),
        "listening_ports": listening_ports(),
    }


def requests(window):
    """The last `window` requests in the log of the instance that runs now: how many, how many failed, the last errors."""
    running = instance()
    mine = "pid=%d " % running[0] if running else "pid="
    with open(LOG) as file:
        lines = [line.rstrip("\n") for line in file if mine in line and "request=" in line][-window:]
    errors = [line for line in lines if " ERROR " in line]
    return len(lines), len(errors), errors[-3:]
