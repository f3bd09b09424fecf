"""The schema's history, run by app.store.migrate."""
