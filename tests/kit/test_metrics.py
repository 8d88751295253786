"""Metrics of one process; those of several are tested with the processes."""

import os
from pathlib import Path

from kinfolk.kit import metrics


def test_without_a_folder_the_process_counts_for_itself() -> None:
    metrics.http_metrics().count("GET", "/towns/{town}", 200, 0.02)
    metrics.http_metrics().count("GET", "/towns/{town}", 200, 0.02)
    text, media_type = metrics.exposition()
    assert b'kinfolk_http_requests_total{method="GET",route="/towns/{town}",status="200"} 2.0\n' in text
    assert b'kinfolk_http_request_seconds_bucket{le="0.01",route="/towns/{town}"} 0.0\n' in text
    assert b'kinfolk_http_request_seconds_bucket{le="0.025",route="/towns/{town}"} 2.0\n' in text
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
