import signal

from hypothesis import settings

# How long an example takes depends on the machine and who else works there.
settings.register_profile("fastrnn", deadline=None)
settings.load_profile("fastrnn")


def pytest_sessionstart() -> None:
    # A shell lets what it starts in the background ignore SIGINT, and so do its descendants.
    signal.signal(signal.SIGINT, signal.default_int_handler)
