"""The process that serves: what it asks of the system."""

import resource

from kinfolk.kit.http.server import MOST_FILES, _allow_files


def test_a_process_may_open_as_many_files_as_the_system_lets_it() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, hard))
        for _ in range(2):
            _allow_files()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
