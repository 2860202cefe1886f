"""A trace as a person sees it."""

from services.cli.waterfall import latest, tree, waterfall


def span(name, parent, start, end, **more):
    return {
        "trace_id": "t" * 32,
        "span_id": name,
        "parent_id": parent,
        "name": name,
        "service": "s",
        "start_ns": start,
        "end_ns": end,
        **more,
    }


SPANS = [
    span("run", None, 0, 10_000_000),
    span("start", "pull", 6_000_000, 10_000_000),
    span("place", "run", 0, 1_000_000),
    span("pull", "run", 2_000_000, 5_000_000, status="ERROR"),
]


def test_children_stand_under_their_parents_in_the_order_of_time():
    assert [(s["name"], depth) for s, depth in tree(SPANS)] == [("run", 0), ("place", 1), ("pull", 1), ("start", 2)]


def test_a_span_whose_parent_was_not_stored_is_a_root():
    assert tree([span("orphan", "gone", 0, 1)])[0][1] == 0


def test_a_loop_of_parents_is_no_endless_walk():
    assert tree([span("a", "b", 0, 1), span("b", "a", 0, 1)]) == []


def test_bars_begin_and_end_where_their_spans_do():
    lines = waterfall(SPANS, 60).splitlines()
    bars = [line[line.index("s: ") :] for line in lines[1:]]
    assert lines[0].endswith("4 spans, 1 services, 10.0 ms, 1 failed")
    first = [line.find("█") for line in lines[1:]]
    assert first == sorted(first) and all("█" in bar for bar in bars)


def test_those_that_only_asked_do_not_hide_the_rest():
    def row(name: str, spans: int = 1) -> dict:
        return {"trace_id": name, "service": "scheduler", "name": name, "spans": spans, "start_ns": 0, "end_ns": 1}

    traces = [row("ecs.DescribeTasks"), row("ecs.ListTasks"), row("ecs.GetThing", spans=2), row("ecs.RunTask")]
    lines = latest(traces, reads=False).splitlines()
    assert [line.split()[0] for line in lines] == ["TRACE", "ecs.GetThing", "ecs.RunTask", "and"]
    assert lines[-1].startswith("and 2 that only asked")
    assert len(latest(traces).splitlines()) == 5
