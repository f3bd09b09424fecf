"""How a process of the service speaks: events with fields, as JSON or for a reader."""

import logging
import sys

import structlog

from app.settings import Settings

_FOREIGN = ("uvicorn", "uvicorn.error")  # loggers that bring handlers of their own


def configure(settings: Settings) -> None:
    """Set up structlog for this process. Events go to standard error, one a line."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    ending: list[structlog.typing.Processor]
    if settings.log_json:
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        ending = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *ending,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _adopt()


class _Adopted(logging.Handler):
    """What libraries log comes out in the same form: the event is the name of their logger."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = {"message": record.getMessage(), "exc_info": record.exc_info or None}
            given = {name: value for name, value in said.items() if value is not None}
            structlog.stdlib.get_logger().log(record.levelno, record.name, **given)
        except Exception:  # noqa: BLE001 - as every handler: a log line ends no program
            self.handleError(record)


def _adopt() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _Adopted) for handler in root.handlers):
        root.addHandler(_Adopted())
    for name in _FOREIGN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
