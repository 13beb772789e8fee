import signal


def pytest_sessionstart() -> None:
    # A shell lets what it starts in the background ignore SIGINT, and so do its descendants.
    signal.signal(signal.SIGINT, signal.default_int_handler)
