"""Metrics of one process; those of several are tested with the processes."""

import asyncio
import os
from pathlib import Path

import pytest

from kinfolk.kit import metrics


async def test_without_a_folder_the_process_counts_for_itself() -> None:
    counting = metrics.http_metrics()
    for seconds in (0.02, 0.025, 11):
        counting.count("GET", "/towns/{town}", 200, seconds)
    counting.share()
    text, media_type = metrics.exposition()
    assert b'kinfolk_http_requests_total{method="GET",route="/towns/{town}",status="200"} 3.0\n' in text
    assert b'kinfolk_http_request_seconds_bucket{le="0.01",route="/towns/{town}"} 0.0\n' in text
    assert b'kinfolk_http_request_seconds_bucket{le="0.025",route="/towns/{town}"} 2.0\n' in text
    assert b'kinfolk_http_request_seconds_bucket{le="10.0",route="/towns/{town}"} 2.0\n' in text
    assert b'kinfolk_http_request_seconds_count{route="/towns/{town}"} 3.0\n' in text
    assert b'kinfolk_http_request_seconds_sum{route="/towns/{town}"} 11.045\n' in text
    assert media_type.startswith("text/plain; version=")
    metrics.forget_process(1)  # nothing is shared, so nothing is to be forgotten


def test_the_folder_goes_with_the_start() -> None:
    with metrics.shared_folder() as folder:
        assert os.environ[metrics.FOLDER] == folder
        Path(folder, "counter_1.db").touch()
        Path(folder, "gauge_livesum_1.db").touch()
        metrics.forget_process(1)
        assert [file.name for file in Path(folder).iterdir()] == ["counter_1.db"]
    assert metrics.FOLDER not in os.environ
    assert not Path(folder).exists()


async def test_what_is_gathered_is_shared_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SECONDS_GATHERED", 0.01)
    metrics.http_metrics().count("GET", "/gathered", 404, 0.1)
    line = b'kinfolk_http_requests_total{method="GET",route="/gathered",status="404"} 1.0\n'
    assert line not in metrics.exposition()[0]
    await asyncio.sleep(0.1)
    assert line in metrics.exposition()[0]
