"""The one exception a user of fastrnn has to know."""


class FastrnnError(ValueError):
    """Input that fastrnn cannot work with: a corpus, a checkpoint, an option.

    The message is one line that names the thing, says what is wrong with it and how to remedy it.
    The command line prints it and exits with code 1.
    """
