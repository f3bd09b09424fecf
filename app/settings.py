"""Everything an operator can set, read from the environment here and nowhere else.

Each field is an environment variable: `database_url` is read from ERRATA_DATABASE_URL.
The API and the workers read the same settings, so that both halves agree on where things lie.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of one process, frozen at its start."""

    model_config = SettingsConfigDict(env_prefix="ERRATA_", frozen=True, extra="ignore")

    # Where the truth and the wake-ups live.
    database_url: str = "postgresql+psycopg://errata@localhost/errata"
    redis_url: str = "redis://localhost:6379/0"
    data_dir: Path = Path(".errata")
    cache_dir: Path | None = None  # what can be computed again; None means data_dir/cache
    # file://, s3:// or gs://; empty means data_dir/blobs. It belongs to this database alone.
    blob_url: str = ""
    small_blob_bytes: int = Field(default=1 << 20, ge=0)  # larger ones leave Postgres

    # What nobody needs any more goes after a while; 0 for `cleanup_every_s` means never.
    cleanup_every_s: float = Field(default=3600, ge=0)
    keep_keys_s: float = Field(default=7 * 86_400, ge=60)  # answered Idempotency-Keys
    # Blobs of no snapshot. Longer than any order takes from its delta to its commit.
    keep_unused_blobs_s: float = Field(default=86_400, ge=3600)

    # The HTTP entrance.
    host: str = "127.0.0.1"
    port: int = Field(default=8642, ge=0, le=65535)
    max_requests: int = Field(default=1000, ge=1, le=10_000)  # facts in one order
    max_body_bytes: int = Field(default=16 << 20, ge=1)
    max_queued: int = Field(default=10_000, ge=1)  # orders of one model that are not settled
    max_wait_s: float = Field(default=300, gt=0)  # the longest `Prefer: wait`
    probe_deadline_s: float = Field(default=60, gt=0)
    # Folders from which local models may be registered. Without one, no caller names a path.
    model_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    # Folders from which evals may read benchmark data by name or path.
    data_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    max_records: int = Field(default=20_000, ge=1)  # of one eval
    max_evals: int = Field(default=1000, ge=1)  # of one model that are not settled

    # The hands.
    device: str = "cpu"
    # What is served; "auto" is what the weights were saved in.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    lease_ttl_s: float = Field(default=10, gt=0)
    poll_s: float = Field(default=2, gt=0)
    step_budget_s: float = Field(default=120, gt=0)  # a step longer than this has hung
    load_budget_s: float = Field(default=1800, gt=0)
    checkpoint_every: int = Field(default=16, ge=1)  # deltas between two checkpoints
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: no metrics of the worker
    failpoint: str = ""  # for tests: where a worker dies on purpose (workers/failpoints.py)

    # What is said.
    log_json: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("model_roots", "data_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:  # noqa: ANN401  (whatever the environment holds)
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @property
    def blobs(self) -> str:
        """Where large blobs go: the URL given, or a folder of the data directory."""
        return self.blob_url or (self.data_dir.absolute() / "blobs").as_uri()

    @property
    def cache(self) -> Path:
        """Where workers keep what can be computed again: converted weights, statistics."""
        return (self.cache_dir or self.data_dir / "cache").absolute()
