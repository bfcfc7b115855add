"""Workflows: what follows from one task to another."""

import time
import uuid

from celery import chain, chord, group, signature
from celery.exceptions import ChordError
from celery.result import GroupResult, result_from_tuple

from cases import BOUND, case, effects, equal, raises, run, traces, until
from proj import app, tasks

add, total, identity = tasks.add, tasks.total, tasks.identity


@case("a chain hands the value on and keeps its lineage")
def _():
    result = chain(tasks.lineage.s(), tasks.lineage.s(), tasks.lineage.s())()
    third = result.get(timeout=BOUND)
    second, first = result.parent.get(timeout=BOUND), result.parent.parent.get(timeout=BOUND)
    root = first[0]
    equal((first[1:], second[1:], third[1:]), ([root, None], [root, root], [root, second[0]]))


@case("an immutable step gets no value")
def _():
    equal(chain(add.s(1, 1), add.si(5, 5), add.s(1))().get(timeout=BOUND), 11)


@case("a step that fails fails the rest, and the errback runs")
def _():
    key = uuid.uuid4().hex
    result = chain(add.s(1, 1), tasks.fail.si("stop"), add.s(1)).apply_async(link_error=tasks.on_error_id.s(key))
    raises(ValueError, lambda: result.get(timeout=BOUND))
    equal(result.state, "FAILURE")
    equal(result.parent.state, "FAILURE")
    assert traces(key, 1)


@case("a chain of 30")
def _():
    equal(chain(add.s(0, 1), *(add.s(1) for _ in range(29)))().get(timeout=BOUND * 2), 30)


@case("a group in order, saved and restored")
def _():
    result = group(add.s(number, 0) for number in range(12))()
    result.save()
    equal(GroupResult.restore(result.id, app=app).get(timeout=BOUND), list(range(12)))


@case("a group of groups")
def _():
    equal(group(group(add.s(1, 1), add.s(2, 2)), add.s(3, 3))().get(timeout=BOUND), [2, 4, 6])


@case("a group with a failure")
def _():
    result = group(add.s(1, 1), tasks.fail.s("g"))()
    raises(ValueError, lambda: result.get(timeout=BOUND))
    until("both", lambda: result.ready())
    equal(result.get(timeout=BOUND, propagate=False)[0], 2)


@case("chord of 20, values in order")
def _():
    equal(chord((tasks.mark.s("chord", number) for number in range(20)), identity.s())().get(timeout=BOUND), list(range(20)))


@case("chord of one, and of none")
def _():
    equal(chord([add.s(1, 1)], total.s())().get(timeout=BOUND), 2)
    equal(chord([], total.s())().get(timeout=BOUND), 0)


@case("group then task becomes a chord, and goes on")
def _():
    equal((group(add.s(number, number) for number in range(5)) | total.s() | add.s(1))().get(timeout=BOUND), 21)


@case("task then group then task")
def _():
    equal((add.s(1, 1) | group(add.s(1), add.s(2)) | total.s())().get(timeout=BOUND), 7)


@case("two groups one after another")
def _():
    equal((group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s()) | total.s())().get(timeout=BOUND), 12)


@case("a chord with a chain as a header, and one as its body")
def _():
    work = chord([chain(add.s(1, 1), add.s(1)), add.s(2, 2)], chain(total.s(), add.s(100)))
    equal(work().get(timeout=BOUND), 107)


@case("a chord in a chord")
def _():
    inner = chord([add.s(1, 1), add.s(2, 2)], total.s())
    equal(chord([inner, add.s(10, 10)], total.s())().get(timeout=BOUND), 26)


@case("a chord with a group as its body")
def _():
    equal(chord([add.s(1, 1), add.s(2, 2)], group(total.s(), total.s()))().get(timeout=BOUND), [6, 6])


@case("a header that fails gives ChordError, and the body's errback runs")
def _():
    key = uuid.uuid4().hex
    body = total.s()
    body.link_error(tasks.on_error_id.s(key))
    result = chord([add.s(1, 1), tasks.fail.s("head")], body)()
    error = result.get(timeout=BOUND, propagate=False)
    assert isinstance(error, ChordError), repr(error)
    assert "ValueError('head')" in str(error), error
    equal(traces(key, 1)[0], result.id)


@case("a header that is unknown fails the chord", stock=False)
def _():
    result = chord([add.s(1, 1), signature("proj.tasks.unwritten")], total.s())()
    error = result.get(timeout=BOUND, propagate=False)
    assert "NotRegistered" in repr(error), repr(error)


@case("a header that is expired fails the chord")
def _():
    result = chord([add.s(1, 1), add.s(1, 1).set(expires=-5)], total.s())()
    error = result.get(timeout=BOUND, propagate=False)
    assert "Revoked" in repr(error) or "expired" in repr(error), repr(error)


@case("a header whose process dies fails the chord")
def _():
    result = chord([add.s(1, 1), tasks.die.s(uuid.uuid4().hex)], total.s())()
    error = result.get(timeout=BOUND, propagate=False)
    assert "WorkerLost" in repr(error), repr(error)


@case("a header over its hard limit fails the chord")
def _():
    result = chord([add.s(1, 1), tasks.limited.s(30)], total.s())()
    error = result.get(timeout=BOUND, propagate=False)
    assert "TimeLimit" in repr(error), repr(error)


@case("a header that retries")
def _():
    equal(chord([tasks.retry_until.s(2), add.s(1, 1)], total.s())().get(timeout=BOUND), 4)


@case("a header that adds to its chord")
def _():
    equal(chord([tasks.grow_chord.s(1), tasks.grow_chord.s(2)], total.s())().get(timeout=BOUND), 206)


@case("starmap, map and chunks")
def _():
    equal(add.starmap([(1, 1), (2, 2)]).delay().get(timeout=BOUND), [2, 4])
    equal(identity.map([1, 2, 3]).delay().get(timeout=BOUND), [1, 2, 3])
    result = add.chunks([(number, 1) for number in range(10)], 3).delay()
    equal(result.get(timeout=BOUND), [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]])


@case("replace by a task, a chain and a group")
def _():
    equal(tasks.replaced.delay(2, 3).get(timeout=BOUND), 5)
    equal(tasks.replaced_by_chain.delay(1).get(timeout=BOUND), 12)
    result = tasks.replaced_by_group.delay([1, 2, 3])
    equal(sorted(result.get(timeout=BOUND)), [2, 3, 4])


@case("replace within a chain and within a chord")
def _():
    equal(chain(tasks.replaced.s(1, 1), add.s(10))().get(timeout=BOUND), 12)
    equal(chord([tasks.replaced.s(1, 1), tasks.replaced_by_chain.s(0)], total.s())().get(timeout=BOUND), 13)


@case("an errback for a failure in a group")
def _():
    key = uuid.uuid4().hex
    work = group(tasks.fail.s("a"), add.s(1, 1))
    work.link_error(tasks.on_error.s(key))
    work()
    assert "ValueError('a')" in traces(key, 1)[0]


@case("a result tree as a tuple")
def _():
    result = chain(add.s(1, 1), group(add.s(1), add.s(2)))()
    again = result_from_tuple(result.as_tuple(), app=app)
    equal(again.get(timeout=BOUND), [3, 4])


@case("links of links")
def _():
    key = uuid.uuid4().hex
    result = add.apply_async((1, 1), link=add.s(1).set(link=tasks.on_value.s(key)))
    equal(traces(key, 1), ["3"])
    until("the children", lambda: bool(result.children))
    equal(result.children[0].get(timeout=BOUND), 3)


@case("a countdown on a step")
def _():
    begun = time.monotonic()
    equal(chain(add.s(1, 1), add.s(1).set(countdown=1))().get(timeout=BOUND), 3)
    assert time.monotonic() - begun > 0.9


@case("30 chords of 10 at once")
def _():
    results = [chord((add.s(number, 1) for number in range(10)), total.s())() for _ in range(30)]
    equal([result.get(timeout=BOUND * 3) for result in results], [55] * 30)


@case("no chord's keys stay without an end")
def _():
    client = app.backend.client
    left = [key for key in client.scan_iter("celery-taskset-meta-*") if client.ttl(key) < 0]
    equal(left, [])


if __name__ == "__main__":
    run()
