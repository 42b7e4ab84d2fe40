"""How the environment is read: the table of settings, the rules, the addresses.  `asgi_app.env` is its door."""
