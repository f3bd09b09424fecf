"""The `errata` command. It talks to a server over HTTP, and starts one as another process."""
