"""Errors that a person can act on."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where, and what to do.

    The command line prints the message in one line and exits with code 2.
    """


class VideoError(InputError):
    """A video file cannot be read (truncated, empty, no video stream, not a video)."""
