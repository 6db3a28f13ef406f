"""What a benchmark found, as a page."""

from pathlib import Path

from stvgkit.files import replacing


def publish(text: str, path: Path | None) -> None:
    """Print a page, and write it to `path` where one is given."""
    print(text)
    if path:
        with replacing(path) as file:
            file.write(text)
