"""From a run's timeline to the way it took, in the form of `*.test.yaml`: `[a, {parallel: {branch: [b]}}, {foreach: [[c], [c]]}]`."""

import collections


def path(timeline, definition, scope="/"):
    """The states entered in a scope and below it. Knows parallel, foreach and plain states; not the blocks of try and while."""
    events = collections.defaultdict(list)
    for each in sorted(timeline, key=lambda each: (each["scope"], each["seq"], each["index"])):
        events[each["scope"]].append(each["event"])
    implicit = set(_implicit(definition.get("states", []), ""))
    return _way(events, implicit, scope)


def _implicit(states, prefix):
    """Addresses of the states that stand for an agent given in place of states."""
    for state in states:
        address = prefix + (state.get("id") or state["name"])
        for branch in state.get("branches", []):
            inside = f"{address}/branches/{branch['name']}/"
            if "states" in branch:
                yield from _implicit(branch["states"], inside)
            else:
                yield inside + branch["name"]


def _way(events, implicit, scope):
    way = []
    for event in events[scope]:
        if event["type"] == "stateEntered" and event["state"] not in implicit:
            state, visit = event["state"].rpartition("/")[2], event["visit"]
            way.append(state)
        elif event["type"] == "forked" and way:
            base = f"{'' if scope == '/' else scope}/{state}#{visit}"
            branches = {name[len(base) + 1:]: name for name in list(events) if name.startswith(f"{base}/") and "/" not in name[len(base) + 1:]}
            if branches:
                way[-1] = {state: {branch: _way(events, implicit, name) for branch, name in branches.items()}}
            else:
                way[-1] = {state: [_way(events, implicit, f"{base}[{index}]") for index in range(event["children"])]}
    return way


def matches(expected, actual):
    """Whether a way is as expected; a state given by its name alone may have anything inside."""
    if len(expected) != len(actual):
        return False
    for wanted, came in zip(expected, actual):
        if isinstance(wanted, str):
            if wanted != (came if isinstance(came, str) else next(iter(came))):
                return False
            continue
        (state, inside), = wanted.items()
        if not isinstance(came, dict) or state not in came:
            return False
        other = came[state]
        if isinstance(inside, dict) != isinstance(other, dict):
            return False
        pairs = [(inside.get(name, []), other.get(name, [])) for name in inside.keys() | other.keys()] \
            if isinstance(inside, dict) else list(zip(inside, other, strict=False))
        if isinstance(inside, list) and len(inside) != len(other) or not all(matches(*pair) for pair in pairs):
            return False
    return True
