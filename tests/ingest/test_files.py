"""Files: every line is accounted for, the same content counts once, and memory does not grow with the file."""

import hashlib
import io
import json
import os
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from soar.engine.admission import Admitted
from soar.errors import InputError, StoreUnavailableError
from soar.ingest.files import BATCH_RECORDS, LISTED_DEAD_LETTERS, MAX_LINE_BYTES, STDIN, FileReport, FileSource
from soar.ingest.payload import MAX_BYTES
from soar.model.alert import Outcome, Record

from .admitting import CLOCK, door


def ndjson(*ids: int) -> bytes:
    return b"".join(b'{"id": %d}\n' % number for number in ids)


async def read(content: bytes, folder: Path, **options: object) -> tuple[list[Record], FileReport]:
    """The records of a file with this content."""
    records: list[Record] = []

    async def admit(batch: Sequence[Record]) -> list[Admitted]:
        records.extend(batch)
        return []

    path = folder / "alerts"
    path.write_bytes(content)
    report = await FileSource([path], clock=CLOCK, **options).run(admit)
    return records, report


async def test_a_line_is_a_record_named_by_the_files_digest_and_its_line(tmp_path: Path):
    content = b'{"id": 1}\r\n\n   \nnot json\n{"id": 2}'
    records, report = await read(content, tmp_path)
    assert [(record.offset, record.value) for record in records] == [
        (1, b'{"id": 1}'),
        (4, b"not json"),
        (5, b'{"id": 2}'),
    ]
    assert {record.topic for record in records} == {hashlib.sha256(content).hexdigest()[:32]}
    assert {record.source for record in records} == {"file"}
    assert report.records == 3


@pytest.mark.parametrize(
    "content",
    [
        b'[{"id": 1},\n {"id": 2}]',
        b'{\n  "id": 1\n}\n',
        b'\n\n {\n"id": 1}',
        b'\xef\xbb\xbf{\n  "id": 1\n}',
        b'[\n{"id": 1},\n{"id": 2',  # cut off: one dead letter that says so, not three
        b'{\n  "id": 1,\n  "tags": [\n    "a"\n  ]',
    ],
)
async def test_a_document_over_several_lines_is_one_record(tmp_path: Path, content):
    [record], _ = await read(content, tmp_path)
    assert (record.value, record.offset) == (content.strip(), 1)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b'{"id": 1}', 1),
        (b'[{"id": 1}]', 1),
        (b'[{"id": 1}]\n[{"id": 2}]\n', 2),
        (b'{"id": 1\n{"id": 2}\n', 2),  # a bad first line does not take the second with it
        (b'\xef\xbb\xbf{"id": 1}\n{"id": 2}\n', 2),
        (b"plain text\nof two lines\n", 2),
        (b'"a"\n"b"\n', 2),
        (b"\x00\xff\n\xfe\n", 2),
    ],
)
async def test_anything_else_is_a_record_per_line(tmp_path: Path, content, lines):
    records, _ = await read(content, tmp_path)
    assert [record.offset for record in records] == list(range(1, lines + 1))


async def test_a_file_without_records_is_an_empty_report(tmp_path: Path):
    for content in (b"", b"\n \n"):
        assert await read(content, tmp_path) == ([], FileReport())


async def test_the_report_accounts_for_every_record(tmp_path: Path):
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(ndjson(1, 2) + b"broken\n" + ndjson(1))
    async with door(tmp_path) as opened:
        report = await FileSource([path], clock=CLOCK).run(opened.admit)
    assert report.records == 4
    assert report.outcomes == {Outcome.NO_MATCH: 2, Outcome.DEAD_LETTER: 1, Outcome.DUPLICATE: 1}
    [letter] = report.dead_letters
    assert letter.coordinates.endswith("/0/3")


async def test_the_same_content_counts_once_whatever_its_name(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(ndjson(1, 2))
    async with door(tmp_path) as opened:
        report = await FileSource([tmp_path / "a", tmp_path / "b"], clock=CLOCK).run(opened.admit)
        assert (report.records, report.redelivered, report.outcomes) == (4, 2, {Outcome.NO_MATCH: 2})
        assert await opened.stored() == {"Alert 1": 1, "Alert 2": 1}


async def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path):
    """The store is lost after the first batch; the second run admits exactly what is missing."""
    count = 2 * BATCH_RECORDS + 10
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(ndjson(*range(count)))
    async with door(tmp_path) as opened:

        async def failing(records: Sequence[Record]) -> list[Admitted]:
            if opened.batches:
                raise StoreUnavailableError("disk full")
            return await opened.admit(records)

        with pytest.raises(StoreUnavailableError):
            await FileSource([path], clock=CLOCK).run(failing)
        report = await FileSource([path], clock=CLOCK).run(opened.admit)
        assert (report.records, report.redelivered) == (count, BATCH_RECORDS)
        assert await opened.stored() == {f"Alert {number}": 1 for number in range(count)}


async def test_standard_input_and_pipes_are_files_too(tmp_path: Path):
    content = ndjson(1, 2)
    (tmp_path / "alerts").write_bytes(content)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    async with door(tmp_path) as opened:
        paths = [STDIN, tmp_path / "alerts", pipe]
        report = await FileSource(paths, clock=CLOCK, stdin=io.BytesIO(content)).run(opened.admit)
    writer.join()
    assert (report.records, report.redelivered) == (6, 4)


async def test_progress_comes_after_each_batch_and_ends_at_the_whole(tmp_path: Path):
    told: list[tuple[int, int]] = []
    content = ndjson(*range(2 * BATCH_RECORDS)) + b"\n\n"
    await read(content, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (len(content), len(content))


async def test_the_mapping_that_was_named_is_on_every_record(tmp_path: Path):
    records, _ = await read(ndjson(1, 2), tmp_path, mapping="falco")
    assert [record.mapping for record in records] == ["falco", "falco"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.json", "missing.json: cannot be read: No such file or directory"),
        ("folder", "folder: is a folder; name the files in it, such as .*/folder/\\*.json"),
    ],
)
async def test_a_path_that_cannot_be_read_is_said_before_anything_is_admitted(tmp_path: Path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "good").write_bytes(ndjson(1))
    async with door(tmp_path) as opened:
        with pytest.raises(InputError, match=message):
            await FileSource([tmp_path / "good", tmp_path / name], clock=CLOCK).run(opened.admit)
        assert not opened.batches


@pytest.mark.parametrize(
    "content", [[{"id": n, "text": "x" * 1000} for n in range(1200)], {"items": ["x" * 100] * 12_000}]
)
async def test_a_document_too_large_for_one_record_says_how_to_split_it(tmp_path: Path, content):
    with pytest.raises(InputError, match=f"a record has at most {MAX_BYTES}.*jq -c"):
        await read(json.dumps(content, indent=1).encode(), tmp_path)


async def test_a_line_too_large_for_one_record_does_not_take_the_others_with_it(tmp_path: Path):
    records, _ = await read(b"x" * (MAX_LINE_BYTES + 12) + b"\n" + ndjson(1), tmp_path)
    assert [(record.offset, len(record.value)) for record in records] == [(1, MAX_LINE_BYTES), (2, 9)]


async def test_what_is_appended_while_the_file_is_read_belongs_to_the_next_reading(tmp_path: Path):
    path = tmp_path / "alerts"
    path.write_bytes(ndjson(*range(BATCH_RECORDS)))
    seen: list[Record] = []

    async def admit(records: Sequence[Record]) -> list[Admitted]:
        if not seen:
            with path.open("ab") as file:
                file.write(ndjson(999))
        seen.extend(records)
        return []

    await FileSource([path], clock=CLOCK).run(admit)
    assert len(seen) == BATCH_RECORDS


async def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    line = json.dumps({"id": 1, "text": "x" * 5000}).encode() + b"\n"
    path = tmp_path / "alerts"
    path.write_bytes(line * 12_000)

    async def admit(records: Sequence[Record]) -> list[Admitted]:
        return []

    source = FileSource([path], clock=CLOCK)
    tracemalloc.start()
    report = await source.run(admit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.records == 12_000
    assert peak < path.stat().st_size / 3


async def test_the_report_lists_the_first_dead_letters_and_counts_all(tmp_path: Path):
    path = tmp_path / "alerts"
    path.write_bytes(b"broken\n" * (LISTED_DEAD_LETTERS + 5))
    async with door(tmp_path) as opened:
        report = await FileSource([path], clock=CLOCK).run(opened.admit)
    assert report.outcomes[Outcome.DEAD_LETTER] == LISTED_DEAD_LETTERS + 5
    assert [letter.coordinates[-1] for letter in report.dead_letters[:3]] == ["1", "2", "3"]
    assert len(report.dead_letters) == LISTED_DEAD_LETTERS


async def test_every_real_sample_file_is_read_as_what_it_is(shared_data: Path, tmp_path: Path):
    """No sample is cut into pieces: every record is whole JSON."""
    files = [path for path in sorted((shared_data / "alerts").rglob("*")) if path.is_file()]
    assert files
    for path in files:
        records, _ = await read(path.read_bytes(), tmp_path)
        assert all(json.loads(record.value.decode("utf-8-sig")) is not None for record in records), path
