"""Where the `fastrnn` command and `python -m fastrnn` begin."""

import signal


def main() -> None:
    """Run the command line."""
    # Until it takes over, Ctrl-C ends the process without a traceback of half an import.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fastrnn.cli import main

    main()


if __name__ == "__main__":
    main()
