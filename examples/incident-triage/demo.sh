#!/bin/sh
# usage: demo.sh            asks for the approval on the terminal
#        YES=1 demo.sh      approves by itself
#
# Starts a small service that fails, lets the incident triage workflow look at it and restart it, shows what happened, and leaves
# nothing behind. STEPWELL names the binary (default: `stepwell` in PATH). Needs python3, nothing else.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
stepwell=${STEPWELL:-stepwell}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
stop() { echo "demo: $*" >&2; exit 1; }

command -v "$stepwell" >/dev/null || stop "there is no \`$stepwell\`: run \`make demo\`, or name the binary in STEPWELL"
command -v python3 >/dev/null || stop "python3 is needed: the demo's agents and its service are written in it"
if [ "${YES:-}" = 1 ]; then
    yes=--yes
elif [ -t 0 ] && [ -t 2 ]; then
    yes=
else
    stop "the workflow asks for an approval and there is no terminal to ask on: \`make demo YES=1\` approves"
fi

DEMO_DIR=$(mktemp -d "${TMPDIR:-/tmp}/stepwell-demo.XXXXXX")
export DEMO_DIR
# The interpreter itself rather than a wrapper that wants an environment of its own.
PATH=$(dirname "$(python3 -c 'import sys; print(sys.executable)')"):$PATH
export PATH

cleanup() {
    trap '' INT TERM HUP
    # The service, whichever instance runs now, ends as soon as the folder does not name it any more.
    pid=$(cut -d' ' -f1 "$DEMO_DIR/checkout.pid" 2>/dev/null || true)
    rm -rf "$DEMO_DIR"
    wait
    tries=0
    while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $tries -lt 20 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    # What it was writing just then.
    rm -rf "$DEMO_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "1. A service that leaks memory starts, and serves requests until some of them fail"
python3 "$here/programs/service.py" </dev/null >/dev/null 2>&1 &
tries=0
until [ "$(grep -c ' ERROR ' "$DEMO_DIR/checkout.log" 2>/dev/null || true)" -ge 12 ] 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || stop "the service did not get to where it fails; see $here/programs/service.py"
    sleep 0.1
done
tail -n 3 "$DEMO_DIR/checkout.log"

say "2. The incident triage workflow runs"
status=0
"$stepwell" run "$here/workflows/incident-triage.workflow.yaml" \
    --db "$DEMO_DIR/demo.db" --input '{"namespace": "production", "service": "checkout"}' $yes || status=$?
# A run that was rejected or cancelled has a timeline as well; only what could not run at all has none.
[ "$status" -eq 0 ] || [ "$status" -ge 3 ] || exit "$status"

say "3. What happened, from the run's journal"
run=$("$stepwell" runs ls --db "$DEMO_DIR/demo.db" --limit 1 --output json | python3 "$here/programs/first_run.py")
"$stepwell" runs timeline "$run" --db "$DEMO_DIR/demo.db"

say "4. What it did to the machine"
echo "outbox:"
cat "$DEMO_DIR/outbox.jsonl" 2>/dev/null || echo "(nothing was sent)"
echo "the service's log, now:"
tail -n 3 "$DEMO_DIR/checkout.log"
exit "$status"
