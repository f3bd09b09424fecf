"""The service: journal, queue, use cases and the HTTP entrance. Never imports torch."""
