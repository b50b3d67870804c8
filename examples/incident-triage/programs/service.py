"""The service that the demo watches: `checkout`, with a memory leak.

It listens on a free port of the loopback interface, serves requests (its own, some fifty a second), and keeps a little of each
in memory. When it has kept too much, every eighth request fails. A restart cures it, for a while.

It writes its log and its process id to $DEMO_DIR, and ends by itself when the process id there is no longer its own: when the
demo is over, or when another instance has taken its place.
"""

import http.server
import os
import sys
import threading
import time
import urllib.request

DIR = os.environ["DEMO_DIR"]
PID_FILE = os.path.join(DIR, "checkout.pid")
LOG = os.path.join(DIR, "checkout.log")

KEPT_PER_REQUEST = 256 * 1024
TOO_MUCH = 24 * 1024 * 1024
EVERY = 0.02
LONGEST_LIFE = 15 * 60

kept = []
served = 0
lock = threading.Lock()


def log(level, text):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    with open(LOG, "a") as file:
        file.write("%sZ %-5s pid=%d %s\n" % (stamp, level, os.getpid(), text))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global served
        with lock:
            served += 1
            number = served
            if len(kept) * KEPT_PER_REQUEST < TOO_MUCH:
                kept.append(b"." * KEPT_PER_REQUEST)
            full = len(kept) * KEPT_PER_REQUEST >= TOO_MUCH
        if full and number % 8 == 0:
            log("ERROR", "request=%d status=500 cart cache is full (%d MB)" % (number, TOO_MUCH >> 20))
            self.send_response(500)
        else:
            log("INFO", "request=%d status=200" % number)
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def is_mine():
    try:
        with open(PID_FILE) as file:
            return file.read().split()[:1] == [str(os.getpid())]
    except OSError:
        return False


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The new instance takes over; the one before sees it and ends.
    with open(PID_FILE + ".new", "w") as file:
        file.write("%d %d\n" % (os.getpid(), port))
    os.replace(PID_FILE + ".new", PID_FILE)
    log("INFO", "listening on 127.0.0.1:%d" % port)
    # Straight to the loopback interface, whatever proxy the machine uses.
    client = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + LONGEST_LIFE
    while is_mine() and time.monotonic() < end:
        try:
            client.open("http://127.0.0.1:%d/cart" % port, timeout=5).read()
        except OSError:
            pass
        time.sleep(EVERY)


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError:
        sys.exit(0)  # the demo's folder has gone
