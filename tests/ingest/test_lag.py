"""Lag by partition, and what stands still."""

from aiokafka import TopicPartition

from soar.ingest.lag import Watch

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def test_where_records_wait_and_none_comes_it_stands_still_from_the_first_look_on():
    watch = Watch()
    for now, position in ((0.0, 5), (10.0, 7), (20.0, 7), (30.0, 7)):
        watch.look({A: position, B: 3}, {A: 9, B: 3}, now=now)
    assert watch.lag == {A: 2, B: 0}
    assert watch.stuck(21, now=30.0) == []
    assert watch.stuck(20, now=30.0) == [A]


def test_what_has_nothing_to_read_never_stands_still_and_its_first_record_has_its_full_time():
    watch = Watch()
    watch.look({A: 5}, {A: 5}, now=0.0)
    watch.look({A: 5}, {A: 5}, now=100.0)
    watch.look({A: 5}, {A: 6}, now=101.0)
    assert watch.stuck(20, now=119.0) == []
    assert watch.stuck(20, now=121.0) == [A]


def test_while_we_ourselves_do_not_read_nothing_stands_still():
    watch = Watch()
    watch.look({A: 5}, {A: 9}, now=0.0)
    watch.excuse(now=60.0)
    watch.look({A: 5}, {A: 9}, now=61.0)
    assert watch.stuck(20, now=79.0) == []
    assert watch.stuck(20, now=80.0) == [A]


def test_a_partition_that_was_taken_from_us_is_forgotten():
    watch = Watch()
    watch.look({A: 5, B: 5}, {A: 9, B: 9}, now=0.0)
    watch.look({B: 5}, {B: 9}, now=50.0)
    assert (watch.lag, watch.stuck(20, now=60.0)) == ({B: 4}, [B])
