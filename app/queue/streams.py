"""The name of every Redis key and channel, in one table. No other file spells one.

edits:{model}         stream    an order was journaled: {"edit_id"}; the journal says which is next.
                                With "kind": "cancel", the running one is to stop.
                                {"eval_id"} likewise, for evals, with "kind": "eval" or "cancel"
probes:{model}        list      probe messages, JSON
probe-reply:{probe}   list      the one reply, JSON; expires
progress:{edit}       channel   one step of a running edit, JSON
settled:{model}       channel   {"edit", "status", "snapshot"}
worker:{model}        string    the worker's heartbeat, JSON; expires
"""

EDITS = "edits"
PROBES = "probes"
PROBE_REPLY = "probe-reply"
PROGRESS = "progress"
SETTLED = "settled"
WORKER = "worker"

CHANNELS = frozenset({PROGRESS, SETTLED})  # said once to whoever listens; the rest is kept
STREAM_LENGTH = 1000  # wake-ups worth keeping: the journal has them all
REPLY_TTL_S = 60


def edits(model: str) -> str:
    """Name the stream of a model's wake-ups."""
    return f"{EDITS}:{model}"


def probes(model: str) -> str:
    """Name the list of a model's waiting probes."""
    return f"{PROBES}:{model}"


def probe_reply(probe: str) -> str:
    """Name the list that takes the reply to one probe."""
    return f"{PROBE_REPLY}:{probe}"


def progress(edit: str) -> str:
    """Name the channel of one edit's steps."""
    return f"{PROGRESS}:{edit}"


def settled(model: str) -> str:
    """Name the channel that tells of settled orders of a model."""
    return f"{SETTLED}:{model}"


def worker(model: str) -> str:
    """Name the heartbeat of a model's worker."""
    return f"{WORKER}:{model}"


def every(of: str) -> str:
    """Return the pattern of all names of one kind."""
    return f"{of}:*"


def kind(name: str) -> str:
    """Return what a name is: the part before its colon."""
    return name.partition(":")[0]
