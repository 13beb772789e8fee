import signal

from hypothesis import settings

# How long an example takes depends on the machine and who else works there.
settings.register_profile("fastrnn", deadline=None)
settings.load_profile("fastrnn")


def pytest_sessionstart() -> None:
    # A shell lets what it starts in the background ignore SIGINT, nohup SIGHUP, and so do all their
    # descendants.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
