"""The HTTP API; :func:`autokv.api.app.create_app` makes it."""
