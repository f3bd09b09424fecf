"""Where a server may be when none answers: advice for the error that says so."""

from urllib.parse import urlsplit

from errata.places import default_data_folder, holder

HERE = frozenset({"127.0.0.1", "::1", "localhost"})
DEFAULT_PORT = 8642


def advice(url: str) -> str:
    """Say in a sentence or two how to get an answer, from what can be seen on this machine."""
    asked = urlsplit(url)
    if asked.hostname not in HERE:
        return "Is that host up, and is the address right? --url or ERRATA_URL gives another"
    folder = default_data_folder()
    found = holder(folder)
    port = f" --port {asked.port}" if asked.port != DEFAULT_PORT else ""
    start = f"`errata up{port}`"
    if found is None:
        return f"Start one with {start}; {folder} holds no data yet"
    if not found.lives():
        return f"Start one with {start}; it goes on with the data in {folder}"
    running = f"`errata up` (pid {found.pid}) works in {folder}"
    if found.url is None:
        return f"{running} and does not listen yet; try again in a moment"
    if found.url == url.rstrip("/"):
        return f"{running}, but its API is away; see {folder / 'logs' / 'api.log'}"
    return f"{running} and listens at {found.url}; use --url {found.url} or set ERRATA_URL"
