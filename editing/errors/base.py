"""What every error is one of, and two that belong to neither kind."""

from typing import ClassVar


class EditingError(Exception):
    """Base of every error raised by `editing`."""

    code: ClassVar[str] = "editing-error"

    def __init__(self, detail: str, **fields: object) -> None:
        super().__init__(detail)
        self.fields = fields


class BadRequest(EditingError):
    """The caller sent something that can be mended."""

    code = "bad-request"


class EditFailed(EditingError):
    """The method could not do what it was asked; the weights are as they were."""

    code = "edit-failed"


class StatsMissing(EditingError):
    """The second moment of a layer was never collected."""

    code = "stats-missing"

    def __init__(self, *, layer: int) -> None:
        super().__init__(
            f"The second moment of layer {layer} has not been collected for this model. "
            "Run editing.walk.prepare first.",
            layer=layer,
        )


class BlobUnreadable(EditingError):
    """Bytes that cannot be read as a delta or a checkpoint."""

    code = "blob-unreadable"

    def __init__(self, why: str) -> None:
        super().__init__(f"The stored bytes cannot be read: {why}. Restore them from a backup.")
